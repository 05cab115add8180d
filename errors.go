package diskimage

import (
	"fmt"
	"strconv"
	"strings"
)

// An ErrorKind is a class of [Error], a constant to be used with errors.Is.
type ErrorKind string

const (
	ErrFormat      ErrorKind = "not this format"            // not that format, or declared and found differ, or two formats at once
	ErrTruncated   ErrorKind = "truncated"                  // the file ends before what it must hold
	ErrCorrupt     ErrorKind = "corrupt"                    // the file breaks its format's rules
	ErrUnsupported ErrorKind = "unsupported"                // valid, or may be, and not read here
	ErrExternal    ErrorKind = "external reference refused" // the image names a file that may not be opened
	ErrEncrypted   ErrorKind = "encrypted"                  // the guest data is encrypted
	ErrLimit       ErrorKind = "over a limit"               // larger than the format's readers or the caller allow
	ErrChanged     ErrorKind = "changed while in use"       // the source is not what it was a moment ago
)

func (k ErrorKind) Error() string { return string(k) }

// An Error says what is wrong with an image, and where.
//
// errors.Is(err, ErrCorrupt) and the like ask for its Kind; errors.Unwrap
// gives the cause.
type Error struct {
	Kind   ErrorKind // never empty
	Format string    // the format's name: "qcow2", "raw"; "" where none applies
	Off    int64     // host offset of the object at fault in the image file, -1 where there is none
	Field  string    // the object at fault: "l2 table 17: entry 3", "header: cluster_bits"
	Msg    string    // the fact
	Err    error     // the cause, or nil
}

// Error returns one line such as
//
//	qcow2: l2 table 17: entry 3 at 0x50018: reserved bits set
func (e *Error) Error() string {
	var b strings.Builder
	sep := func() {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
	}
	b.WriteString(e.Format)
	if e.Field != "" {
		sep()
		b.WriteString(e.Field)
	}
	if e.Off >= 0 {
		if e.Field == "" {
			sep()
		} else {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "at %#x", e.Off)
	}
	if e.Msg != "" {
		sep()
		b.WriteString(e.Msg)
	}
	if e.Err != nil {
		sep()
		b.WriteString(e.Err.Error())
	}
	if e.Msg == "" && e.Err == nil {
		sep()
		b.WriteString(string(e.Kind))
	}
	return b.String()
}

// Is reports whether target is the error's kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(ErrorKind)
	return ok && k == e.Kind
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Quote returns s, which comes from an image, in quotes and fit for one line
// of a terminal: control characters and invalid UTF-8 escaped, cut after 256
// bytes.
func Quote(s string) string {
	const most = 256
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}
