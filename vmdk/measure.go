package vmdk

import "github.com/diskimage-go/diskimage"

// Measure returns how many bytes the files of a new image take together, of a
// disk of size guest bytes: required, if so many allocated ones are stored, and
// fully, if all are. allocated counts whole units of the new image
// ([Writer.Unit]), the last one too. What a [Writer] writes is no more; it is
// less if grains compress, and the same else, but for what some grains of a
// streamOptimized image do not need of the 1 KiB that is counted for each.
func Measure(size, allocated int64, o WriterOptions) (required, fully int64, err error) {
	o.Size, o.Creator = size, noFiles{}
	w, err := NewWriter(noFile{}, o)
	if err != nil {
		return 0, 0, err
	}
	if _, err := w.finish(&writePlan{w: w}); err != nil { // the empty image
		return 0, 0, err
	}
	var empty int64
	for _, f := range w.files {
		empty += f.end
	}
	all := roundUp(w.size, w.unit())
	with := func(data int64) int64 {
		switch o.Subformat {
		case MonolithicFlat, TwoGbMaxExtentFlat:
			return empty
		case StreamOptimized: // markers of grains, and grain tables with theirs
			grains := data / w.unit()
			return empty + data + grains*pieceMost + min(grains, all/(w.unit()*numGTEsPerGT)+1)*(sectorSize+gtBytes)
		}
		return empty + data
	}
	return with(min(allocated, all)), with(all), nil
}

// noFiles makes files that keep nothing.
type noFiles struct{}

func (noFiles) Create(string) (diskimage.Output, error) { return noFile{}, nil }

type noFile struct{}

func (noFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
