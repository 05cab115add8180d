// Package diskimage holds the vocabulary for reading, writing and converting
// virtual machine disk images: the types that the format packages (raw, qcow2)
// and the pipeline (convert) speak with each other. It imports nothing but the
// standard library.
//
// An image file is opened by its format's package and shows itself as a
// [VirtualDisk]: the bytes that a guest would see, and a map of where they lie
// ([Extent]). A [Writer] builds one image, front to back, out of [Batch]es of
// guest data. Package convert joins the two on all cores:
//
//	source                VirtualDisk               convert                                   target
//	qcow2.Disk ─┐         NextExtent, ReadAt ─► plan ─► work ×N ─► place ×1 ─► store ×N ─► qcow2.Writer
//	raw.Disk   ─┴───────► ReadStored ───────────────────▲ read,     in guest    pwrite      raw.Writer
//	raw.Stream ─────────► NextBlock  (forward only)       Encode    order                   then Finish: tables, header
//
// What every part keeps to:
//
//   - Nothing is lost in silence. Damage is an [*Error] that names the object
//     and its host offset; what a user should know and no error says is a
//     [Note].
//   - An image opens nothing but itself: what it names is opened by the
//     caller's [Opener] or refused.
//   - The same input, options and version give the same bytes out, for any
//     number of workers, to a file or a pipe.
//   - Memory is bounded: no number read from a file sizes an allocation
//     unchecked.
//
// All offsets and lengths are in bytes unless a name says otherwise.
package diskimage
