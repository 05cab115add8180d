package imagefile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// A log is an Output that tells its calls, and writes short where it is to.
type log struct {
	calls []string
	short bool
}

func (l *log) WriteAt(p []byte, off int64) (int, error) {
	l.calls = append(l.calls, fmt.Sprintf("%d+%d", off, len(p)))
	if l.short {
		return len(p) - 1, nil
	}
	return len(p), nil
}

func (l *log) Truncate(n int64) error { l.calls = append(l.calls, fmt.Sprint("to ", n)); return nil }
func (l *log) Sync() error            { return os.ErrDeadlineExceeded }

func TestStore(t *testing.T) {
	var a, b log
	fa, fb := New("f", &a), New("f", &b)
	buf := bytes.Repeat([]byte{1}, 1<<20)
	var w Writes
	w.Add(&fa, 0, make([]byte, 100))
	w.Add(&fa, 100, make([]byte, 100)) // gathered
	w.Add(&fa, 300, make([]byte, 100)) // not right behind it
	w.Add(&fb, 400, make([]byte, 100)) // another file
	w.Add(&fb, 500, buf[:directBytes-1])
	w.Add(&fb, 500+directBytes-1, buf[directBytes-1:directBytes+1]) // one piece of memory: now long enough
	w.AddZeros(&fb, 1<<20, 1<<20+1)
	require.NoError(t, w.Store(context.Background()))
	require.Equal(t, []string{"0+200", "300+100"}, a.calls)
	require.Equal(t, []string{"400+100", "500+32769", "1048576+1048576", "2097152+1"}, b.calls)

	w.Reset()
	require.NoError(t, w.Store(context.Background()))
	require.Len(t, a.calls, 2)

	// No more is gathered than has room.
	for i := range int64(20) {
		w.Add(&fa, i*directBytes/2, make([]byte, directBytes/2))
	}
	require.NoError(t, w.Store(context.Background()))
	require.Equal(t, []string{"0+262144", "262144+65536"}, a.calls[2:])
}

func TestErrors(t *testing.T) {
	l := log{short: true}
	f := New("f", &l)
	require.False(t, f.ZeroFilled())
	require.True(t, f.Truncates())
	var w Writes
	w.Add(&f, 16, make([]byte, 4))
	require.EqualError(t, w.Store(context.Background()), "f: writing 4 bytes at 0x10: short write: 3 bytes")

	err := f.Close(context.Background(), 20)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.EqualError(t, err, "f: syncing: i/o timeout")
	require.Equal(t, []string{"16+4", "to 20"}, l.calls)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, w.Store(ctx), context.Canceled)
	require.ErrorIs(t, f.Sync(ctx), context.Canceled)
}
