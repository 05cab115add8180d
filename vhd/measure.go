package vhd

// Measure returns how many bytes a new image of a disk of size guest bytes
// takes: required, if so many allocated ones are stored, and fully, if all are.
// allocated counts whole blocks, the last one too. A fixed disk takes all.
func Measure(size, allocated int64, o WriterOptions) (required, fully int64, err error) {
	o.Size = size
	w, err := NewWriter(nowhere{}, o)
	if err != nil {
		return 0, 0, err
	}
	if w.o.Type == Fixed {
		return w.size + footerLen, w.size + footerLen, nil
	}
	with := func(blocks int64) int64 {
		end := w.front
		if blocks > 0 { // the first starts where Place has it, the others follow alike
			first := (end+w.bitmap+pieceSize-1)&^(pieceSize-1) + w.o.BlockSize
			end = first + (blocks-1)*((w.bitmap+pieceSize-1)&^(pieceSize-1)+w.o.BlockSize)
		}
		return end + footerLen
	}
	all := int64(len(w.table))
	if w.o.AllocateZeros {
		allocated = size
	}
	return with(min((allocated+w.o.BlockSize-1)/w.o.BlockSize, all)), with(all), nil
}

// nowhere is an output that keeps nothing.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
