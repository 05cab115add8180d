package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/diskimage-go/diskimage"
)

// The reference prints its objects in an odd but fixed order, which programs
// that read it line by line depend on. An object here is a list of members in
// the order of printing; members whose value is nil are left out.
type (
	object []member
	member struct {
		name  string
		value any // object, list, string, bool, int64, int, uint64, or nil: absent
	}
	list []any
)

// set gives the member of that name, which must be there, its value.
func (o object) set(name string, v any) {
	for i := range o {
		if o[i].name == name {
			o[i].value = v
		}
	}
}

// fixed is a number that prints with three digits behind the point.
type fixed float64

func (f fixed) String() string { return strconv.FormatFloat(float64(f), 'f', 3, 64) }

// writeJSONLine prints a flat object the way the reference does on one line.
func writeJSONLine(w io.Writer, o object) error {
	b := bufio.NewWriter(w)
	sep := "{ "
	for _, m := range o {
		if m.value == nil {
			continue
		}
		b.WriteString(sep)
		writeString(b, m.name)
		b.WriteString(": ")
		writeValue(b, m.value, 0)
		sep = ", "
	}
	b.WriteString("}\n")
	return b.Flush()
}

// writeJSON prints v the way the reference does: indented by four spaces, all
// but ASCII escaped, an empty list on two lines.
func writeJSON(w io.Writer, v any) error {
	b := bufio.NewWriter(w)
	writeValue(b, v, 0)
	b.WriteByte('\n')
	return b.Flush()
}

func writeValue(b *bufio.Writer, v any, depth int) {
	line := func(depth int) { b.WriteString("\n" + strings.Repeat("    ", depth)) }
	switch v := v.(type) {
	case object:
		b.WriteByte('{')
		first := true
		for _, m := range v {
			if m.value == nil {
				continue
			}
			if !first {
				b.WriteByte(',')
			}
			first = false
			line(depth + 1)
			writeString(b, m.name)
			b.WriteString(": ")
			writeValue(b, m.value, depth+1)
		}
		line(depth)
		b.WriteByte('}')
	case list:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			line(depth + 1)
			writeValue(b, e, depth+1)
		}
		line(depth)
		b.WriteByte(']')
	case string:
		writeString(b, v)
	case int64:
		b.Write(strconv.AppendInt(b.AvailableBuffer(), v, 10))
	default: // other numbers and truth values print as they are
		fmt.Fprint(b, v)
	}
}

func writeString(b *bufio.Writer, s string) {
	const escaped, letters = "\"\\\b\f\n\r\t", `"\bfnrt`
	b.WriteByte('"')
	for _, r := range s { // invalid UTF-8 becomes U+FFFD
		short := strings.IndexRune(escaped, r)
		switch {
		case short >= 0:
			b.WriteByte('\\')
			b.WriteByte(letters[short])
		case r >= 0x20 && r < 0x7f:
			b.WriteByte(byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(b, `\u%04X\u%04X`, hi, lo)
		default:
			fmt.Fprintf(b, `\u%04X`, r)
		}
	}
	b.WriteByte('"')
}

// writeHuman prints the members of o as indented lines "name: value", nested
// ones deeper, dashes in names as spaces.
func writeHuman(w io.Writer, o object, depth int) {
	pad := strings.Repeat("    ", depth)
	for _, m := range o {
		if m.value != nil {
			writeHumanValue(w, pad+strings.ReplaceAll(m.name, "-", " ")+":", m.value, depth)
		}
	}
}

func writeHumanValue(w io.Writer, label string, v any, depth int) {
	switch v := v.(type) {
	case object:
		fmt.Fprintln(w, label)
		writeHuman(w, v, depth+1)
	case list:
		fmt.Fprintln(w, label)
		pad := strings.Repeat("    ", depth+1)
		for i, e := range v {
			writeHumanValue(w, pad+"["+strconv.Itoa(i)+"]:", e, depth+1)
		}
	case string:
		fmt.Fprintln(w, label, plain(v))
	default:
		fmt.Fprintln(w, label, v)
	}
}

// plain returns text that may come from an image as it is when it is harmless
// on a terminal, else quoted and escaped.
func plain(s string) string {
	if q := diskimage.Quote(s); !utf8.ValidString(s) || q != `"`+s+`"` {
		return q
	}
	return s
}
