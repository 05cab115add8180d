package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
)

// envExternal is read where --allow-external is not given.
const envExternal = "DISKIMAGE_ALLOW_EXTERNAL"

// An external says which of the files that an image names may be opened:
// "" none, "own" those in the image's own folder, "any" all, else those in
// the folder of that name.
type external string

const (
	externalNone external = ""
	externalOwn  external = "own"
	externalAny  external = "any"
)

func (e *external) option() option {
	return option{0, "allow-external", optionalArgument, func(v string) error {
		if v == "" {
			v = string(externalOwn)
		}
		*e = external(v)
		return nil
	}}
}

// policy returns e, or what the environment says if nothing was given.
func (e external) policy() external {
	if e == externalNone {
		return external(os.Getenv(envExternal))
	}
	return e
}

// opener returns what opens the files that the image of this name names.
func (e external) opener(image string) (diskimage.Opener, error) {
	switch e = e.policy(); e {
	case externalNone:
		return refuser{}, nil
	case externalAny:
		return convert.AnyOpener(), nil
	case externalOwn:
		if image == stdName {
			return nil, errors.New("--allow-external: standard input has no folder of its own; name one")
		}
		if isURL.MatchString(image) {
			return nil, errors.New("--allow-external: what is behind a URL has no folder of its own; name one")
		}
		return openerIn(filepath.Dir(image))
	}
	return openerIn(string(e))
}

func openerIn(dir string) (diskimage.Opener, error) {
	d, err := convert.NewDirOpener(dir)
	if err != nil {
		return nil, fmt.Errorf("--allow-external: %s: %w", dir, reason(err))
	}
	return d, nil
}

// refuser opens nothing, and says what would.
type refuser struct{}

func (refuser) OpenDisk(context.Context, diskimage.Reference) (diskimage.VirtualDisk, error) {
	return nil, refusal()
}

func (refuser) OpenSource(context.Context, diskimage.Reference) (diskimage.Source, error) {
	return nil, refusal()
}

// refusal is the reason only: which file is refused says the image that names
// it.
func refusal() error {
	return &diskimage.Error{Kind: diskimage.ErrExternal, Off: -1,
		Msg: "refused; --allow-external allows files in the image's own folder, --allow-external=DIR or =any others"}
}
