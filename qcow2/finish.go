package qcow2

import (
	"context"
	"encoding/binary"

	"github.com/diskimage-go/diskimage"
)

// Finish places and writes what is left of the tables, sets the output's
// length, which is one of whole clusters, and writes the header. If the output
// can be synced, it is before the header is written, and after.
func (w *Writer) Finish(ctx context.Context) error {
	switch {
	case w.state != writerOpen:
		return misuse("Finish after the end")
	case w.failed.Load() != nil:
		return w.afterFailure()
	case w.size < 0:
		return misuse("the disk's size is not known")
	case w.placed != w.stored.Load():
		return misuse("Finish with %d batches placed and %d stored", w.placed, w.stored.Load())
	}
	if err := w.finish(ctx); err != nil {
		return w.fail(err)
	}
	w.state = writerFinished
	return nil
}

func (w *Writer) finish(ctx context.Context) error {
	p := &writePlan{w: w}
	fields, err := w.placeRest(p)
	if err != nil {
		return err
	}
	header, err := w.encodeHeader(fields)
	if err != nil {
		return err
	}
	if err := p.writes.Store(ctx); err != nil {
		return err
	}
	if err := w.file.Close(ctx, w.cursor); err != nil {
		return err
	}
	if err := w.file.WriteAt(ctx, header, 0); err != nil {
		return err
	}
	return w.file.Sync(ctx)
}

// placeRest places what was kept back, the open L2 tables, the L1 table, the
// open refcount blocks and the refcount table.
func (w *Writer) placeRest(p *writePlan) (headerFields, error) {
	f := headerFields{l1Entries: max(1, w.l2Tables(w.size))}
	if err := w.placeCompressed(p, true, true); err != nil {
		return f, err
	}
	if err := w.placeTables(p, 1<<63-1); err != nil {
		return f, err
	}
	l1Clusters := w.l1Clusters(f.l1Entries)
	var err error
	if f.l1, err = w.give(l1Clusters); err != nil {
		return f, err
	}
	w.growL1(l1Clusters << w.clusterBits)
	w.write(p, f.l1, w.l1)
	if err := w.placeRefcountBlocks(p); err != nil {
		return f, err
	}

	// The blocks and the table count themselves.
	blocks, table := w.withRefcounts(w.cursor>>w.clusterBits - w.refs.closed)
	host, err := w.give(blocks - w.refs.closed + table)
	if err != nil {
		return f, err
	}
	for range blocks - w.refs.closed {
		w.write(p, host, w.refs.close(host))
		host += w.clusterSize()
	}
	f.refTable, f.refTableClusters = host, table
	encoded := make([]byte, table<<w.clusterBits)
	copy(encoded, w.refs.table)
	w.write(p, host, encoded)
	return f, nil
}

// headerFields is what the header says of the tables.
type headerFields struct {
	l1, l1Entries              int64 // host offset, entries
	refTable, refTableClusters int64
}

// encodeHeader returns cluster 0: the header, its extensions and the backing
// file's name. The specification's section "Header".
func (w *Writer) encodeHeader(f headerFields) ([]byte, error) {
	be := binary.BigEndian
	h := make([]byte, headerLenNew, w.clusterSize())
	be.PutUint32(h[offMagic:], Magic)
	be.PutUint32(h[offVersion:], uint32(w.o.Version))
	be.PutUint32(h[offClusterBits:], uint32(w.clusterBits))
	be.PutUint64(h[offSize:], uint64(max(0, w.size)))
	be.PutUint32(h[offL1Size:], uint32(f.l1Entries))
	be.PutUint64(h[offL1Offset:], uint64(f.l1))
	be.PutUint64(h[offRefTableOffset:], uint64(f.refTable))
	be.PutUint32(h[offRefTableClusters:], uint32(f.refTableClusters))
	if w.o.Version == 2 {
		h = h[:headerLenV2]
	} else {
		if w.o.Compression == diskimage.Zstd {
			be.PutUint64(h[offIncompatible:], incompatCompression)
			h[offCompressionType] = compressionZstd
		}
		if w.o.LazyRefcounts {
			be.PutUint64(h[offCompatible:], compatLazyRefcounts)
		}
		be.PutUint32(h[offRefcountOrder:], uint32(w.refcountOrder))
		be.PutUint32(h[offHeaderLength:], headerLenNew)
	}
	if w.o.BackingFile != "" {
		h = appendExtension(h, extBackingFormat, w.o.BackingFormat)
	}
	h = appendExtension(h, extEnd, "")
	if name := w.o.BackingFile; name != "" {
		be.PutUint64(h[offBackingOffset:], uint64(len(h)))
		be.PutUint32(h[offBackingSize:], uint32(len(name)))
		h = append(h, name...)
	}
	if int64(len(h)) > w.clusterSize() {
		return nil, badOption("backing file", "the header, %d bytes with the name, does not fit a cluster of %d", len(h), w.clusterSize())
	}
	return append(h, make([]byte, w.clusterSize()-int64(len(h)))...), nil
}

// appendExtension appends a header extension, padded to a multiple of 8.
func appendExtension(h []byte, kind uint32, data string) []byte {
	h = binary.BigEndian.AppendUint32(h, kind)
	h = binary.BigEndian.AppendUint32(h, uint32(len(data)))
	h = append(h, data...)
	return append(h, make([]byte, -len(data)&7)...)
}
