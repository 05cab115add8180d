package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHelp(t *testing.T) {
	golden := filepath.Join("testdata", "help.txt")
	got := succeed(t, "help")
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		write(t, golden, []byte(got))
	}
	require.Equal(t, string(contents(t, golden)), got)
	require.Equal(t, got, succeed(t, "--help"))
	require.Equal(t, got, succeed(t, "-h"))
	for line := range strings.Lines(got) {
		require.LessOrEqual(t, len(line), 80, line)
	}
	for _, v := range verbs() {
		want := "usage: diskimage " + v.name + " " + v.synopsis + "\n"
		require.Equal(t, want, succeed(t, "help", v.name))
		require.Equal(t, want, succeed(t, v.name, "-h"))
		require.Equal(t, want, succeed(t, v.name, "--help"))
	}
	require.Equal(t, "diskimage version "+version+"\n", succeed(t, "version"))
	require.Equal(t, 1, command(t, "help", "nonsense").code)
}

// TestHelpNamesEveryOption holds the synopses against what is parsed: each
// option in one is known, and known options that are not refused are in one.
func TestHelpNamesEveryOption(t *testing.T) {
	for _, v := range verbs() {
		for _, word := range strings.FieldsFunc(v.synopsis, func(r rune) bool { return strings.ContainsRune(" []()|=", r) }) {
			if !strings.HasPrefix(word, "-") {
				continue
			}
			r := command(t, v.name, word)
			require.NotContains(t, r.stderr, "unrecognized option", "%s %s", v.name, word)
			require.NotContains(t, r.stderr, "is not supported", "%s %s", v.name, word)
		}
	}
}

func TestOptionHelp(t *testing.T) {
	for _, verb := range []string{"convert -O", "create -f", "measure -O"} {
		words := strings.Fields(verb)
		out := succeed(t, append(words, "qcow2", "-o", "help")...)
		require.True(t, strings.HasPrefix(out, "Supported qcow2 options:\n  backing_file=<str>     - File name of a base image\n"), out)
		require.Contains(t, out, "  cluster_size=<size>    - qcow2 cluster size\n")
		require.Contains(t, succeed(t, append(words, "raw", "-o", "?")...), "  size=<size>            - Virtual disk size\n")
	}
}

func TestFailures(t *testing.T) {
	inFolder(t)
	write(t, "disk.raw", diskBytes(1<<20))
	try := "Try 'diskimage help' for more information\n"
	for args, want := range map[string]string{
		"":                                   "diskimage: Not enough arguments\n" + try,
		"nonsense":                           "diskimage: Command not found: nonsense\n" + try,
		"info":                               "diskimage: Expecting one image file name\n" + try,
		"info -x":                            "diskimage: unrecognized option '-x'\n" + try,
		"info none":                          "diskimage: Could not open 'none': no such file or directory\n",
		"map --allow-external=none disk.raw": "diskimage: Could not open 'disk.raw': --allow-external: none: no such file or directory\n",
		"info /":                             "diskimage: Could not open '/': is a folder, not a regular file or a block device\n",
		"info --output xml none":             "diskimage: --output must be used with human or json as argument.\n",
		"map -s -1 none":                     "diskimage: Invalid start offset specified: -1. You may use k, M, G, T, P or E suffixes for kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.\n",
		"create x 9E":                        "diskimage: Invalid image size specified. Must be between 0 and 9223372036854775807.\n",
		"create -f qcow2 -o cluster_size=512 x 1T":  "",
		"convert disk.raw none/target":              "diskimage: disk.raw: error while converting to none/target: no such file or directory\n",
		"convert -O qcow2 -c --level 99 disk.raw x": "",
	} {
		r := command(t, strings.Fields(args)...)
		require.Equal(t, 1, r.code, args)
		if want != "" {
			require.Equal(t, want, r.stderr, args)
		}
		require.True(t, strings.HasPrefix(r.stderr, "diskimage: "), r.stderr)
		require.Equal(t, []string{"disk.raw"}, listing(t), args)
	}
	r := command(t, "create", "-f", "qcow2", "-b", "", "x", "1M")
	require.Equal(t, "diskimage: Expected backing file name, got empty string\n", r.stderr)
}
