package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// writeHelp prints the help for the verb in args, or for all.
func writeHelp(w io.Writer, args []string) error {
	all := verbs()
	if len(args) > 0 {
		i := slices.IndexFunc(all, func(v verb) bool { return v.name == args[0] })
		if i < 0 {
			return usageError("Command not found: " + args[0])
		}
		_, err := fmt.Fprintf(w, "usage: diskimage %s %s\n", all[i].name, all[i].synopsis)
		return err
	}
	fmt.Fprint(w, helpHead)
	for _, v := range all {
		writeSynopsis(w, v)
	}
	_, err := fmt.Fprint(w, helpTail)
	return err
}

// writeSynopsis prints a verb's options in lines of at most 79 characters,
// breaking between those, not inside of brackets.
func writeSynopsis(w io.Writer, v verb) {
	const width = 79
	line, depth, word := "  "+v.name, 0, ""
	for _, r := range v.synopsis + " " {
		switch r {
		case '[':
			depth++
		case ']':
			depth--
		case ' ':
			if depth > 0 {
				break
			}
			if len(line)+1+len(word) > width {
				fmt.Fprintln(w, line)
				line = strings.Repeat(" ", 9)
			}
			line += " " + word
			word = ""
			continue
		}
		word += string(r)
	}
	fmt.Fprintln(w, line)
}

const helpHead = `usage: diskimage COMMAND [OPTIONS] FILE...
Converts and inspects virtual machine disk images.

Commands, with the options of qemu-img where it has the same:
`

const helpTail = `  help [COMMAND]
  version

FMT is qcow2, raw, vmdk, vpc (vhd) or ova; it is told by the content where it
is not given. SOURCE and TARGET may be "-" for standard input and output; an
image that is read may be an http or https URL.
Sizes take the suffixes k, M, G, T, P and E, powers of 1024.

  -f FMT             format of the (first) image
  -F FMT             format of the second image, or of the backing file
  -O FMT             format of the target, raw if not given
  -o NAME=VALUE,...  of the target; -o help tells which
  -c                 compress: a qcow2 with a level and a match window, auto
                     being 4k for what is compressed, any for what was and is
                     moved; a vmdk, which is then streamOptimized, with a level
  -B FILE, -b FILE   backing file of the target; -B with -O vpc makes a
                     differencing disk over a vpc of the same size
  -l SNAPSHOT        the disk as an internal snapshot has it
  -S SIZE            0: allocate everything; 4k: leave zeros out (default)
  -n                 write into an existing raw file or device
  -t unsafe          do not wait until the target is on the disk
  -m WORKERS         1 to 16; default: one per processor
  -p                 show progress; --progress=json: on standard error, for
                     programs
  -C, -T, -U, -W     taken and without effect: nothing here depends on them
  -q                 print nothing but errors
  -u                 do not look for the backing file
  --output human|json
  --verify           read the target back before it gets its name
  --digest           print the SHA-256 of the guest's disk; with --verify of
                     the source's and of the target's as it is read back; then
                     that of each file that is written, as sha256sum does
  --sidecar          write the SHA-256 of each file to TARGET.sha256, for
                     sha256sum -c
  --block-hash       print the block hash of the guest's disk, as blksum of
                     libblkhash does: it costs what the data costs
  --trust-compressed move the grains of a vmdk into a compressed qcow2 without
                     decoding and verifying them
  --salvage          turn what cannot be read into zeros, and say which
  --max-virtual-size SIZE
                     refuse a source whose disk is larger
  --max-output-size SIZE
                     fail where the target becomes longer
  --disk N|NAME      which disk of an OVA: its number there or its file's name;
                     --b-disk for the second image
  --size-rule RULE   how large the disk of a vpc is: as its footer's current
                     size or its geometry tells; auto (default): as the program
                     that made it means it
  --unwrap           read an image out of gzip, zstd, a tar or both, whatever
                     its name; one that ends in .gz, .tgz, .zst, .tzst or .tar
                     says so by itself. --disk NAME: that file of the tar
  --spool DIR        first copy what a pipe gives, or what is wrapped, to a
                     temporary file in DIR: then images of any format can be
                     read from it
  --header 'NAME: VALUE'
                     sent to the server of a URL; @FILE: those in its lines
  --public-only      connect to addresses of the public Internet only
  --raw-anyway       take -f raw at its word, whatever the content looks like
  --force            write to a block device, or over the files of a vmdk of
                     several
  --exact            read the data for the numbers, do not trust the map
  --allow-external   open files that the image names, in its own folder;
                     =DIR in that folder, =any everywhere.
                     DISKIMAGE_ALLOW_EXTERNAL=own, DIR or any means the same

Exit codes: 0 done; 1 failed. check: 1 not done, 2 corrupt, 3 leaks, 63 nothing
to check. compare: 1 different, 2 not opened, 3 and 4 not read.
`
