package httpsource

import (
	"fmt"
	"net/netip"

	"github.com/diskimage-go/diskimage"
)

// PublicOnly is for [Options.Allow]: it refuses every address that is not of
// the public Internet, with [diskimage.ErrExternal]. It goes by the
// special-purpose registries of IANA (RFC 6890): loopback, private (RFC 1918,
// unique local), link-local, shared (100.64.0.0/10), multicast, unspecified,
// documentation, benchmarking and reserved ranges; and the address that Azure
// gives its platform services. The metadata services of clouds lie in these:
// 169.254.169.254, fd00:ec2::254, 100.100.100.200, 192.0.0.192. An IPv6 address
// that stands for one of IPv4 (mapped, 6to4, NAT64 by the well-known prefix) is
// judged by that one; of NAT64 with a prefix of a network's own it cannot know.
// It allows every port.
func PublicOnly(a netip.AddrPort) error {
	if what := notPublic(a.Addr()); what != "" {
		return &diskimage.Error{Kind: diskimage.ErrExternal, Off: -1,
			Msg: fmt.Sprintf("%s is %s, and only public addresses are allowed", a.Addr(), what)}
	}
	return nil
}

// special are the ranges that are not public, the first that fits counts.
var special = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "an unspecified address"},
	{netip.MustParsePrefix("10.0.0.0/8"), "a private address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a shared address (RFC 6598)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("168.63.129.16/32"), "Azure's platform address"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address"},
	{netip.MustParsePrefix("172.16.0.0/12"), "a private address"},
	{netip.MustParsePrefix("192.0.0.0/24"), "a reserved address"},
	{netip.MustParsePrefix("192.0.2.0/24"), "a documentation address"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a reserved address"},
	{netip.MustParsePrefix("192.168.0.0/16"), "a private address"},
	{netip.MustParsePrefix("198.18.0.0/15"), "a benchmarking address"},
	{netip.MustParsePrefix("198.51.100.0/24"), "a documentation address"},
	{netip.MustParsePrefix("203.0.113.0/24"), "a documentation address"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},

	{netip.MustParsePrefix("::/128"), "an unspecified address"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("fc00::/7"), "a private address"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
	{netip.MustParsePrefix("2001::/23"), "a reserved address"}, // Teredo, ORCHID, benchmarking
	{netip.MustParsePrefix("2001:db8::/32"), "a documentation address"},
	{netip.MustParsePrefix("3fff::/20"), "a documentation address"},
}

// Where IPv6 addresses hold one of IPv4, and where all that are given out lie.
var (
	sixToFour = netip.MustParsePrefix("2002::/16")    // RFC 3056: behind the prefix
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: at the end
	unicast6  = netip.MustParsePrefix("2000::/3")
)

// notPublic returns what a is if it is not public, and "" else.
func notPublic(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		b := a.As16()
		switch {
		case sixToFour.Contains(a):
			return notPublic(netip.AddrFrom4([4]byte(b[2:6])))
		case nat64.Contains(a):
			return notPublic(netip.AddrFrom4([4]byte(b[12:16])))
		}
	}
	for _, s := range special {
		if s.prefix.Contains(a) {
			return s.what
		}
	}
	if !a.Is4() && !unicast6.Contains(a) {
		return "a reserved address"
	}
	return ""
}
