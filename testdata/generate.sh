#!/usr/bin/env bash
# Makes the images of this folder with qemu-img and qemu-io, and writes the
# table in README.md from what came out. Usage: testdata/generate.sh
#
# disk.raw.gz, the guest disk in most of them, is made only where it is
# missing: mkfs.ext4 records when its files were made, so another run of it
# gives another disk. Guest contents are the same after each run; image files
# that hold a date (a snapshot's) are not.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C TZ=UTC

# A file system with text, numbers and 16 KiB that no codec can shrink.
make_disk() {
	mkdir "$work/tree"
	cp ../LICENSE "$work/tree/LICENSE"
	seq 1 12000 >"$work/tree/numbers"
	openssl enc -aes-128-ctr -K 00 -iv 00 -in /dev/zero 2>/dev/null | head -c 16384 >"$work/tree/noise" || true
	find "$work/tree" -exec touch -d @1000000000 {} +
	truncate -s 4M "$work/disk.raw"
	E2FSPROGS_FAKE_TIME=1000000000 mkfs.ext4 -q -b 1024 -O ^has_journal,^resize_inode -L diskimage \
		-U 6469736b-696d-6167-6500-000000000001 -E hash_seed=6469736b-696d-6167-6500-000000000002,root_owner=0:0 \
		-d "$work/tree" "$work/disk.raw"
	gzip -9n <"$work/disk.raw" >disk.raw.gz
	rm -rf "$work/tree" "$work/disk.raw"
}

# content FILE [SNAPSHOT]: the SHA-256 of the guest disk, as the reference
# reads it; or why it is to be refused.
content() {
	local from=(convert -O raw)
	case $1 in *.raw) from+=(-f raw) ;; *.vhd) from+=(-f vpc) ;; *) from+=(-f "${1##*.}") ;; esac
	[ -z "${2-}" ] || from+=(-l "snapshot.name=$2")
	case $1 in
	aes.qcow2) echo "refused: encrypted" ;;
	*) qemu-img "${from[@]}" "$1" guest.tmp && sha256sum <guest.tmp | cut -d' ' -f1 && rm guest.tmp ;;
	esac
}

rows=$work/rows
made=()

# make FILE COMMANDS: runs the commands, which make the image.
make() {
	echo "$1" >&2
	(cd "$work" && eval "$2")
	made+=("$1")
	row "$1" "" "$2"
}

# row FILE SNAPSHOT COMMANDS: the image's line in the table.
row() {
	local size digest format=()
	case $1 in *.vhd) format=(-f vpc) ;; esac # or a fixed one is raw
	size=$(cd "$work" && qemu-img info "${format[@]}" --output=json "$1" | sed -n 's/^    "virtual-size": *\([0-9]*\).*/\1/p')
	digest=$(cd "$work" && content "$1" "$2")
	printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$size" "$digest" "$3" >>"$rows"
}

[ -f disk.raw.gz ] || make_disk
gzip -dc disk.raw.gz >"$work/disk.raw"
row disk.raw "" "mkfs.ext4 -d tree disk.raw"

convert='qemu-img convert -f raw -O qcow2'
for spec in \
	v3: v2:compat=0.10 \
	cluster-512:cluster_size=512 cluster-4k:cluster_size=4k cluster-2m:cluster_size=2M \
	refcount-1:refcount_bits=1 refcount-64:refcount_bits=64 \
	extended-l2:extended_l2=on lazy-refcounts:lazy_refcounts=on \
	prealloc-metadata:preallocation=metadata prealloc-full:preallocation=full; do
	name=${spec%%:*}.qcow2 options=${spec#*:}
	make "$name" "$convert ${options:+-o $options }disk.raw $name"
done
for type in zlib zstd; do
	make $type.qcow2 "$convert -c -o compression_type=$type disk.raw $type.qcow2"
	for size in 512 4k 2M; do
		make $type-${size,,}.qcow2 "$convert -c -o compression_type=$type,cluster_size=$size disk.raw $type-${size,,}.qcow2"
	done
done
make zlib-v2.qcow2 "$convert -c -o compat=0.10 disk.raw zlib-v2.qcow2"
make zlib-refcount-1.qcow2 "$convert -c -o refcount_bits=1 disk.raw zlib-refcount-1.qcow2"

# Guest writes.
make zero-clusters.qcow2 "cp v3.qcow2 zero-clusters.qcow2; qemu-io -f qcow2 -c 'write -z 64k 128k' -c 'write -z -u 256k 64k' -c 'write -z 3M 1M' zero-clusters.qcow2"
make zero-clusters-v2.qcow2 "cp v2.qcow2 zero-clusters-v2.qcow2; qemu-io -f qcow2 -c 'write -z 64k 128k' -c 'discard 256k 64k' zero-clusters-v2.qcow2"
make rewritten.qcow2 "cp zlib.qcow2 rewritten.qcow2; qemu-io -f qcow2 -c 'write -P 7 100k 200k' -c 'discard 64k 64k' rewritten.qcow2"
make subclusters.qcow2 "qemu-img create -f qcow2 -o extended_l2=on,cluster_size=16k subclusters.qcow2 1M; qemu-io -f qcow2 -c 'write -P 1 512 512' -c 'write -P 2 20k 1536' -c 'write -z 17k 1k' -c 'write -P 3 64k 64k' -c 'write -z 70k 2k' -c 'write -P 4 1023k 1k' subclusters.qcow2"
make odd-size.qcow2 "qemu-img create -f qcow2 odd-size.qcow2 66048; qemu-io -f qcow2 -c 'write -P 5 0 512' -c 'write -P 6 65536 512' odd-size.qcow2"
make empty.qcow2 "qemu-img create -f qcow2 empty.qcow2 0"
make hole.qcow2 "qemu-img create -f qcow2 hole.qcow2 64M"
make dirty.qcow2 "qemu-img create -f qcow2 -o lazy_refcounts=on dirty.qcow2 1M; ! qemu-io -f qcow2 -c 'write -P 8 0 192k' -c flush -c abort dirty.qcow2 2>abort.log"

# More than one file.
make overlay.qcow2 "qemu-img create -f qcow2 -b zlib.qcow2 -F qcow2 overlay.qcow2; qemu-io -f qcow2 -c 'write -P 9 32k 64k' -c 'write -z 512k 64k' overlay.qcow2"
make overlay-2.qcow2 "qemu-img create -f qcow2 -o cluster_size=4k -b overlay.qcow2 -F qcow2 overlay-2.qcow2; qemu-io -f qcow2 -c 'write -P 10 40k 8k' overlay-2.qcow2"
make overlay-larger.qcow2 "qemu-img create -f qcow2 -b overlay-2.qcow2 -F qcow2 overlay-larger.qcow2 5M; qemu-io -f qcow2 -c 'write -P 11 4608k 64k' overlay-larger.qcow2"
make overlay-smaller.qcow2 "qemu-img create -f qcow2 -b zlib.qcow2 -F qcow2 overlay-smaller.qcow2 100k"
make overlay-raw.qcow2 "qemu-img create -f qcow2 -b disk.raw -F raw overlay-raw.qcow2; qemu-io -f qcow2 -c 'write -P 12 1M 64k' overlay-raw.qcow2"
make overlay-subclusters.qcow2 "qemu-img create -f qcow2 -o extended_l2=on -b v2.qcow2 -F qcow2 overlay-subclusters.qcow2; qemu-io -f qcow2 -c 'write -P 13 66k 2k' -c 'write -z 68k 4k' -c 'write -P 14 130k 10k' overlay-subclusters.qcow2"
make data-file.qcow2 "qemu-img create -f qcow2 -o data_file=data-file.bin data-file.qcow2 1M; qemu-io -f qcow2 -c 'write -P 15 64k 100k' -c 'write -z 128k 64k' data-file.qcow2"
make data-file-raw.qcow2 "qemu-img create -f qcow2 -o data_file=data-file-raw.bin,data_file_raw=on data-file-raw.qcow2 1M; qemu-io -f qcow2 -c 'write -P 16 64k 100k' data-file-raw.qcow2"
made+=(data-file.bin data-file-raw.bin)

# Snapshots and bitmaps.
make snapshots.qcow2 "cp v3.qcow2 snapshots.qcow2; qemu-img snapshot -c first snapshots.qcow2; qemu-io -f qcow2 -c 'write -P 17 64k 192k' snapshots.qcow2; qemu-img snapshot -c second snapshots.qcow2; qemu-io -f qcow2 -c 'write -P 18 128k 64k' -c 'write -z 1M 64k' snapshots.qcow2"
row snapshots.qcow2 first "(its snapshot)"
row snapshots.qcow2 second "(its snapshot)"
make bitmaps.qcow2 "cp zlib.qcow2 bitmaps.qcow2; qemu-img bitmap --add bitmaps.qcow2 daily; qemu-img bitmap --add -g 16k bitmaps.qcow2 hourly; qemu-io -f qcow2 -c 'write -P 19 2M 64k' bitmaps.qcow2; qemu-img bitmap --disable bitmaps.qcow2 hourly"

# VMDK: every subformat, the parts of a set beside it.
vmdk='qemu-img convert -f raw -O vmdk'
for spec in sparse: sparse-compat6:compat6 stream:subformat=streamOptimized; do
	name=${spec%%:*}.vmdk options=${spec#*:}
	make "$name" "$vmdk ${options:+-o $options }disk.raw $name"
done
make flat.vmdk "$vmdk -o subformat=monolithicFlat disk.raw flat.vmdk"
make split-flat.vmdk "$vmdk -o subformat=twoGbMaxExtentFlat disk.raw split-flat.vmdk"
make split-sparse.vmdk "$vmdk -o subformat=twoGbMaxExtentSparse disk.raw split-sparse.vmdk"
make zeroed.vmdk "qemu-img convert -f raw -O vmdk -o zeroed_grain=on disk.raw zeroed.vmdk; qemu-io -f vmdk -c 'write -z 64k 128k' -c 'write -z 256k 64k' -c 'write -z 3M 1M' zeroed.vmdk"
make odd-size.vmdk "qemu-img create -f vmdk odd-size.vmdk 66048; qemu-io -f vmdk -c 'write -P 5 0 512' -c 'write -P 6 65536 512' odd-size.vmdk"
make overlay-sparse.vmdk "qemu-img create -f vmdk -b sparse.vmdk -F vmdk overlay-sparse.vmdk; qemu-io -f vmdk -c 'write -P 22 32k 64k' -c 'write -P 23 512k 64k' overlay-sparse.vmdk"
made+=(flat-flat.vmdk split-flat-f001.vmdk split-sparse-s001.vmdk)

# VHD: both kinds, with the size that was asked for and with a geometry's.
vhd='qemu-img convert -f raw -O vpc'
make dynamic.vhd "$vhd disk.raw dynamic.vhd"
make dynamic-exact.vhd "$vhd -o force_size disk.raw dynamic-exact.vhd"
make fixed.vhd "$vhd -o subformat=fixed disk.raw fixed.vhd"
make fixed-exact.vhd "$vhd -o subformat=fixed,force_size disk.raw fixed-exact.vhd"
make backwards.vhd "qemu-img create -f vpc -o force_size backwards.vhd 9M; qemu-io -f vpc -c 'write -P 24 8M 512' -c 'write -P 25 4095k 2k' -c 'write -P 26 1023k 1k' backwards.vhd"

# To be refused.
make aes.qcow2 "qemu-img create -f qcow2 --object secret,id=s,data=diskimage -o encrypt.format=aes,encrypt.key-secret=s aes.qcow2 64k"

# Ship each as it is, or compressed where that is much smaller; one always as
# it is, for the commands of the README above.
find . -maxdepth 1 \( -name '*.qcow2*' -o -name '*.bin*' -o -name '*.vmdk*' -o -name '*.vhd*' \) -delete
for f in "${made[@]}"; do
	gzip -9n <"$work/$f" >"$work/packed"
	if [ "$f" != zlib.qcow2 ] && [ $(($(stat -c %s "$work/packed") * 3)) -lt $(($(stat -c %s "$work/$f") * 2)) ]; then
		mv "$work/packed" "$f.gz"
	else
		cp "$work/$f" "$f"
	fi
done

# The table.
{
	sed '/<!-- images:begin -->/q' README.md
	echo
	echo "| file | snapshot | guest bytes | SHA-256 of the guest disk | made by |"
	echo "|---|---|---|---|---|"
	while IFS=$'\t' read -r file snapshot size digest commands; do
		[ -f "$file" ] || file=$file.gz
		echo "| $file | ${snapshot:-} | $size | $digest | \`${commands//|/\\|}\` |"
	done < <(sed 's/\t\t/\t \t/g' "$rows")
	echo
	echo "| file | bytes | SHA-256 of the file |"
	echo "|---|---|---|"
	for f in disk.raw.gz $(printf '%s\n' *.qcow2* *.bin* *.vmdk* *.vhd* | sort); do
		echo "| $f | $(stat -c %s "$f") | $(sha256sum <"$f" | cut -d' ' -f1) |"
	done
	echo
	sed -n '/<!-- images:end -->/,$p' README.md
} >"$work/README.md"
mv "$work/README.md" README.md
qemu-img --version | head -1
du -sh "$here"
