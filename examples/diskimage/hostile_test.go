package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// TestHostileImages holds that info, check and convert judge a malformed image
// alike: one line that says what is wrong and where, and nothing left behind.
func TestHostileImages(t *testing.T) {
	for _, c := range slices.Concat(imagetest.QCOW2Cases(), imagetest.VMDKCases(), imagetest.VHDCases(), imagetest.ContentCases()) {
		t.Run(c.ID+" "+c.Name, func(t *testing.T) {
			inFolder(t)
			name := cmp.Or(c.File, "image")
			file := c.Build()
			write(t, name, file)
			for beside, build := range c.Files {
				write(t, beside, build())
			}
			if c.Allow {
				t.Setenv(envExternal, "own")
			}
			before := listing(t)

			refuses := func(args ...string) result {
				t.Helper()
				r := command(t, args...)
				require.NotZero(t, r.code, args)
				require.Equal(t, before, listing(t), args)
				return r
			}
			verbs := map[string][]string{
				"info": {"info", name}, "check": {"check", name},
				"convert": {"convert", "-O", "qcow2", name, "target"}, "pipe": {"convert", "-O", "qcow2", name, "-"},
			}
			checked := command(t, verbs["check"]...)
			sound := c.Check == imagetest.Sound && c.Kind != diskimage.ErrExternal // what is sound is opened, with all it names
			switch {
			case sound:
				require.Zero(t, checked.code, checked.stderr)
			case c.Check == imagetest.Corrupt:
				require.Equal(t, exitCorrupt, checked.code, checked.stderr)
			}
			if c.Kind == "" {
				for verb, args := range verbs {
					if r := command(t, args...); verb != "check" {
						require.Zero(t, r.code, "%s: %s", verb, r.stderr)
					}
				}
				require.FileExists(t, "target")
				return
			}
			for verb, args := range verbs {
				if below := c.ID == "V27" && c.Allow; verb == "info" && (c.Stage != imagetest.AtOpen || below) {
					require.Zero(t, command(t, args...).code, "info says nothing of the tables, and opens no parent")
					continue
				}
				if verb == "check" && (sound || checked.code != 1) {
					continue // guest data is not looked at; findings, which are lines of their own
				}
				r := refuses(args...)
				said := withoutNotes(r.stderr)
				require.True(t, strings.HasPrefix(said, "diskimage: ") && strings.Count(said, "\n") == 1, "%s: %q", verb, r.stderr)
				require.Contains(t, said, name, verb)
				more := c.ID[0] == 'R' || len(file) > 4 && c.Kind != diskimage.ErrFormat // else there is nothing to say but that
				if more {
					require.Contains(t, said, c.Field, verb)
				}
				if c.Off > 0 && more {
					require.Contains(t, said, fmt.Sprintf("at %#x", c.Off), verb)
				}
			}
			require.True(t, bytes.Equal(file, contents(t, name)))
		})
	}
}

// withoutNotes returns what is left of standard error without the notes.
func withoutNotes(stderr string) string {
	var b strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "diskimage: note: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestExternalReferences has an image name a file that is there: it is opened
// when that is allowed, as far as it is, and never else.
func TestExternalReferences(t *testing.T) {
	inFolder(t)
	require.NoError(t, os.Mkdir("other", 0o777))
	write(t, "base.raw", diskBytes(1<<20))
	write(t, "other/secret.raw", diskBytes(2<<20))
	inside := []string{"create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "inside.qcow2"}
	succeed(t, inside...)
	require.NoError(t, os.Mkdir("images", 0o777))
	succeed(t, "create", "-q", "-f", "qcow2", "-b", "../other/secret.raw", "-F", "raw", "images/outside.qcow2")

	for _, tc := range []struct {
		image, option, env string
		works              bool
	}{
		{image: "inside.qcow2"},
		{image: "inside.qcow2", option: "--allow-external", works: true},
		{image: "inside.qcow2", option: "--allow-external=any", works: true},
		{image: "inside.qcow2", option: "--allow-external=.", works: true},
		{image: "inside.qcow2", option: "--allow-external=other"},
		{image: "inside.qcow2", env: "own", works: true},
		{image: "inside.qcow2", env: "any", works: true},
		{image: "inside.qcow2", env: "other"},
		{image: "inside.qcow2", env: "other", option: "--allow-external", works: true},
		{image: "images/outside.qcow2"},
		{image: "images/outside.qcow2", option: "--allow-external"},
		{image: "images/outside.qcow2", option: "--allow-external=any", works: true},
		{image: "images/outside.qcow2", option: "--allow-external=other", works: true},
	} {
		t.Setenv(envExternal, tc.env)
		for _, verb := range []string{"convert IMAGE target", "map IMAGE", "compare IMAGE IMAGE", "check IMAGE", "measure IMAGE", "info --backing-chain IMAGE"} {
			args := strings.Fields(strings.ReplaceAll(verb, "IMAGE", tc.image))
			if tc.option != "" {
				args = slices.Insert(args, 1, tc.option)
			}
			r := command(t, args...)
			require.Equal(t, tc.works, r.code == 0, "%+v %q: %s", tc, args, r.stderr)
			if !tc.works {
				require.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
				require.NoFileExists(t, "target")
			} else if args[0] == "convert" {
				require.NoError(t, os.Remove("target"))
			}
		}
	}

	// Chains without an end.
	t.Setenv(envExternal, "any")
	succeed(t, "create", "-q", "-u", "-f", "qcow2", "-b", "self.qcow2", "-F", "qcow2", "self.qcow2", "1M")
	succeed(t, "create", "-q", "-u", "-f", "qcow2", "-b", "pong.qcow2", "-F", "qcow2", "ping.qcow2", "1M")
	succeed(t, "create", "-q", "-u", "-f", "qcow2", "-b", "ping.qcow2", "-F", "qcow2", "pong.qcow2", "1M")
	for _, name := range []string{"self.qcow2", "ping.qcow2"} {
		for _, verb := range []string{"info --backing-chain", "check", "convert", "map"} {
			args := append(strings.Fields(verb), name)
			if verb == "convert" {
				args = append(args, "target")
			}
			r := command(t, args...)
			require.Equal(t, 1, r.code, args)
			require.Contains(t, r.stderr, "circle", args)
			require.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
		}
	}

	// What is known of the image itself is said, then the verdict.
	t.Setenv(envExternal, "")
	r := command(t, "info", "inside.qcow2")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stdout, "backing file: base.raw\n")
	require.Equal(t, "diskimage: Could not open 'inside.qcow2': qcow2: backing file \"base.raw\": "+refusal().Error()+"\n", r.stderr)
	r = command(t, "info", "--allow-external", "images/outside.qcow2")
	require.Zero(t, r.code, "only --backing-chain opens what is below")
}

// TestImageTextIsHarmless has an image name things so as to fool a terminal.
func TestImageTextIsHarmless(t *testing.T) {
	inFolder(t)
	succeed(t, "create", "-q", "-u", "-f", "qcow2", "-b", "evil\x1b[2J\nimage: good", "-F", "raw", "image.qcow2", "1M")
	r := command(t, "info", "image.qcow2")
	require.Contains(t, r.stdout, `backing file: "evil\x1b[2J\nimage: good"`+"\n")
	require.NotContains(t, r.stdout+r.stderr, "\x1b")
	require.Equal(t, 1, strings.Count(r.stderr, "\n"))
	r = command(t, "info", "--output=json", "image.qcow2")
	require.Contains(t, r.stdout, `"backing-filename": "evil\u001B[2J\nimage: good"`)
}

func TestFormatContradicted(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(1<<20))
	succeed(t, "convert", "-q", "-O", "qcow2", "disk.raw", "image.qcow2")
	before := listing(t)
	for _, tc := range []struct{ args, want string }{
		{"-f vmdk image.qcow2", "declared vmdk, content is qcow2"},
		{"-f vpc image.qcow2", "declared vpc, content is qcow2"},
		{"-f raw image.qcow2", "declared raw, content is qcow2 (--raw-anyway takes its bytes for the disk's)"},
		{"-f qcow2 disk.raw", "declared qcow2, content is no qcow2"},
		{"-f nonsense disk.raw", "Unknown driver 'nonsense'"},
	} {
		for verb, code := range map[string]int{"info": 1, "check": 1, "map": 1, "measure": 1, "convert": 1, "compare": 2} {
			args := append([]string{verb}, strings.Fields(tc.args)...)
			if verb == "convert" || verb == "compare" {
				args = append(args, "other")
			}
			r := command(t, args...)
			require.Equal(t, code, r.code, args)
			require.Equal(t, "diskimage: Could not open '"+args[3]+"': "+tc.want+"\n", r.stderr, args)
			require.Equal(t, before, listing(t))
		}
	}
	require.Contains(t, succeed(t, "info", "-f", "raw", "--raw-anyway", "image.qcow2"), "file format: raw\n")
	require.Equal(t, 63, command(t, "check", "-f", "raw", "--raw-anyway", "image.qcow2").code)
	require.Equal(t, 63, command(t, "check", "disk.raw").code)
}

func TestSalvage(t *testing.T) {
	inFolder(t)
	base := imagetest.Base()
	base.SetL2(1, 1<<63|1<<40) // beyond the file's end
	write(t, "image.qcow2", base.Bytes)
	r := command(t, "convert", "image.qcow2", "target")
	require.Equal(t, 1, r.code)
	require.NoFileExists(t, "target")
	r = command(t, "convert", "--salvage", "image.qcow2", "target")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, "diskimage: image.qcow2: 65536 guest bytes at 0x10000 could not be read and are zeros in target\n")
	got := contents(t, "target")
	require.True(t, bytes.Equal(make([]byte, 64<<10), got[64<<10:128<<10]))
	require.NotEqual(t, make([]byte, 64<<10), got[:64<<10])
}
