package httpsource

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// nameOf returns what may be shown of a URL: its scheme, host and path.
func nameOf(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// secrets are the texts that no error may show, the longest first.
type secrets []string

// leastSecret is the length of the shortest part of a URL that is looked for:
// shorter ones are found in every text.
const leastSecret = 4

// withURL returns the secrets and what u says beside scheme, host and path.
func (s secrets) withURL(u *url.URL) secrets {
	parts := []string{u.RawQuery, u.Fragment, u.EscapedFragment()}
	if u.User != nil {
		password, _ := u.User.Password()
		parts = append(parts, u.User.String(), u.User.Username(), password)
	}
	for part := range strings.FieldsFuncSeq(u.RawQuery, func(c rune) bool { return strings.ContainsRune("&;=", c) }) {
		parts = append(parts, part)
		if plain, err := url.QueryUnescape(part); err == nil {
			parts = append(parts, plain)
		}
	}
	return s.with(parts)
}

// withHeader returns the secrets and a header's values, and the words of each:
// a scheme of authorization is no secret, what follows it is.
func (s secrets) withHeader(h http.Header) secrets {
	var parts []string
	for _, values := range h {
		for _, value := range values {
			parts = append(append(parts, value), strings.Fields(value)...)
		}
	}
	return s.with(parts)
}

func (s secrets) with(parts []string) secrets {
	all := slices.Concat(s, parts)
	all = slices.DeleteFunc(all, func(part string) bool { return len(part) < leastSecret })
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(len(b)-len(a), strings.Compare(a, b))
	})
	return slices.Compact(all)
}

// scrub returns text, which may be the server's, without any secret.
func (s secrets) scrub(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, "(secret)")
	}
	return text
}

// clean returns err if its text may be shown, else one that may. Errors of
// package net/url print whole URLs: what they are about is taken out of them.
func (s secrets) clean(err error) error {
	for u := (*url.Error)(nil); errors.As(err, &u) && u.Err != nil; {
		err = u.Err
	}
	text := err.Error()
	if clean := s.scrub(text); clean != text {
		return errors.New(clean) // and not its cause, which could be printed too
	}
	return err
}
