package qcow2

// Measure returns the size that QEMU's tool states for a new image of a disk
// of size guest bytes: required, if the clusters of so many allocated bytes
// are stored, and fully, if all are. allocated counts whole clusters of the new
// image, the last one too; it is at most size rounded up to a cluster.
//
// The figures are those of "qemu-img measure -O qcow2": the tables of the fully
// allocated image, and the data; compression does not enter. What a [Writer]
// here needs at most is told by [MaxSize].
func Measure(size, allocated int64, o WriterOptions) (required, fully int64, err error) {
	g, err := measurable(size, &o)
	if err != nil {
		return 0, 0, err
	}
	// Whole L2 tables, and an L1 table of whole clusters.
	data := g.clusters(size)
	l2 := g.l2Tables(size)
	l1 := ceilShift(l2, g.clusterBits-3)
	meta := 1 + l1 + l2
	blocks, table := g.withRefcounts(data + meta)
	meta += blocks + table
	return meta<<g.clusterBits + allocated, (meta + data) << g.clusterBits, nil
}

// MaxSize returns a size that the image which a [Writer] builds does not
// exceed, compressed or not. size and allocated are as for [Measure]; a backing
// image makes room for the tables that explicit zeros may need. Without
// compression and backing file, and with all that is allocated stored, it is
// exact if size is fully allocated.
func MaxSize(size, allocated int64, o WriterOptions) (int64, error) {
	g, err := measurable(size, &o)
	if err != nil {
		return 0, err
	}
	// Compressed clusters never take more host clusters than plain ones: each
	// is shorter than a cluster, and starts at the next boundary at the latest.
	data := min(g.clusters(allocated), g.clusters(size))
	tables := g.l2Tables(size)
	l2 := min(tables, data)
	if o.BackingFile != "" {
		l2 = tables
	}
	meta := 1 + l2 + g.l1Clusters(tables)
	blocks, table := g.withRefcounts(data + meta)
	return (data + meta + blocks + table) << g.clusterBits, nil
}

// Prefix returns how many bytes at the start of an image are written last, the
// header's cluster: what an output that can only grow has to hold back.
func Prefix(o WriterOptions) (int64, error) {
	o, err := o.withDefaults()
	return o.ClusterSize, err
}

// measurable applies the defaults and checks the size.
func measurable(size int64, o *WriterOptions) (geometry, error) {
	o.Size = size
	filled, err := o.withDefaults()
	if err != nil {
		return geometry{}, err
	}
	*o = filled
	g := o.geometry()
	if size < 0 {
		return g, badOption("size", "it is not known")
	}
	return g, g.checkSize(size)
}
