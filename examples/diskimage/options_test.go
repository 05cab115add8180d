package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseOptions(t *testing.T) {
	for _, tc := range []struct {
		args string
		want string // what was set, then the operands
		err  string
	}{
		{args: "a b", want: "a b"},
		{args: "-q a -p b", want: "q p | a b"},
		{args: "-qp a", want: "q p | a"},
		{args: "-qfraw a", want: "q f=raw | a"},
		{args: "-qf raw a", want: "q f=raw | a"},
		{args: "a -f raw", want: "f=raw | a"},
		{args: "-f - a", want: "f=- | a"},
		{args: "-f -q a", want: "f=-q | a"},
		{args: "--format raw --format=qcow2 a", want: "f=raw f=qcow2 | a"},
		{args: "--form=raw a", want: "f=raw | a"},
		{args: "--allow a", want: "allow= | a"},
		{args: "--allow=any a", want: "allow=any | a"},
		{args: "-q -- -p", want: "q | -p"},
		{args: "- a", want: "- a"},
		{args: "-x", err: "unrecognized option '-x'"},
		{args: "-qx", err: "unrecognized option '-qx'"},
		{args: "--bogus", err: "unrecognized option '--bogus'"},
		{args: "--fo=raw", err: "unrecognized option '--fo=raw'"}, // --format or --force
		{args: "-f", err: "missing argument for option '-f'"},
		{args: "--format", err: "missing argument for option '--format'"},
		{args: "--allow=", err: "missing argument for option '--allow='"},
		{args: "--quiet=yes", err: "option '--quiet' does not take an argument"},
		{args: "-r 1", err: "option '-r' is not supported: because"},
		{args: "--rate=1", err: "option '-r' is not supported: because"},
		{args: "--old", err: "option '--old' is not supported: because"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			var set []string
			say := func(name string) func(string) error {
				return func(v string) error { set = append(set, name+v); return nil }
			}
			operands, err := parseOptions(strings.Fields(tc.args), []option{
				{'q', "quiet", noArgument, say("q")},
				{'p', "", noArgument, say("p")},
				{'f', "format", needsArgument, say("f=")},
				{0, "force", noArgument, say("force")},
				{0, "allow", optionalArgument, say("allow=")},
				refused('r', "rate", needsArgument, "because"),
				refused(0, "old", noArgument, "because"),
			})
			if tc.err != "" {
				require.EqualError(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			got := strings.Join(operands, " ")
			if len(set) > 0 {
				got = strings.Join(set, " ") + " | " + got
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "512": 512, "1k": 1024, "1K": 1024, "7b": 7, "1.5k": 1536, "1.5G": 3 << 29, "2T": 2 << 40, "1E": 1 << 60,
		"7.999E": 9222219115350168961, "0x10": 16, "0x1b": 27, "9223372036854775807": 1<<63 - 1,
	} {
		got, err := parseSize(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "k", "x", "-1", "+1", "1Q", "1kk", "1 k", "1.5", ".5k", "1e3", "1/2", "1_0", "0x", "0b1", "١"} {
		_, err := parseSize(in)
		require.ErrorIs(t, err, errSizeForm, in)
	}
	for _, in := range []string{"8E", "9223372036854775808", "99999999999999999999999999999999999999999999999999"} {
		_, err := parseSize(in)
		require.ErrorIs(t, err, errSizeRange, in)
	}
}

func TestHumanSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "0.977 KiB", 1024: "1 KiB", 1536: "1.5 KiB", 200704: "196 KiB", 1023 << 10: "0.999 MiB",
		1234567890: "1.15 GiB", 3 << 30: "3 GiB", 1<<63 - 1: "8 EiB",
	} {
		require.Equal(t, want, humanSize(n), n)
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"1.5G", "0x1b", "8E", "-1", "1e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseSize(s); err == nil && n < 0 {
			t.Fatalf("%q is %d", s, n)
		}
	})
}

func TestOutputJSON(t *testing.T) {
	var b strings.Builder
	require.NoError(t, writeJSON(&b, object{
		{"text", "a\"\\\n\t\x01é😀\xff\x7f"},
		{"left out", nil},
		{"list", list{list{}, object{{"n", int64(1)}}, true}},
	}))
	require.Equal(t, `{
    "text": "a\"\\\n\t\u0001\u00E9\uD83D\uDE00\uFFFD\u007F",
    "list": [
        [
        ],
        {
            "n": 1
        },
        true
    ]
}
`, b.String())
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"base.qcow2":             "base.qcow2",
		"größe":                  "größe",
		"a\nb":                   `"a\nb"`,
		"\x1b[31m":               `"\x1b[31m"`,
		"\xff":                   `"\xff"`,
		`a"b`:                    `"a\"b"`,
		"\u202egnp.exe":          `"\u202egnp.exe"`,
		strings.Repeat("x", 300): `"` + strings.Repeat("x", 256) + `"...`,
	} {
		require.Equal(t, want, plain(in))
	}
}
