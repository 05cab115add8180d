package convert_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/convert"
	"github.com/diskimage-go/diskimage/httpsource"
	"github.com/diskimage-go/diskimage/internal/imagetest"
	"github.com/diskimage-go/diskimage/qcow2"
	"github.com/diskimage-go/diskimage/vhd"
	"github.com/diskimage-go/diskimage/vmdk"
)

// sourceKinds returns an image file of each kind of a disk, by the name of the
// file, and which of them can be read front to back.
func sourceKinds(t *testing.T, disk []byte) (files map[string][]byte, forward map[string]bool) {
	dir := t.TempDir()
	files = map[string][]byte{"disk.raw": disk, "disk.raw.gz": imagetest.Gzip(disk)}
	for name, o := range map[string]convert.Options{
		"plain.qcow2":   {Format: convert.QCOW2},
		"deflate.qcow2": {Format: convert.QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Deflate}},
		"zstd.qcow2":    {Format: convert.QCOW2, QCOW2: qcow2.WriterOptions{Compression: diskimage.Zstd}},
		"sparse.vmdk":   {Format: convert.VMDK},
		"stream.vmdk":   {Format: convert.VMDK, VMDK: vmdk.WriterOptions{Subformat: vmdk.StreamOptimized}},
		"dynamic.vhd":   {Format: convert.VHD},
		"fixed.vhd":     {Format: convert.VHD, VHD: vhd.WriterOptions{Type: vhd.Fixed}},
	} {
		d, err := convert.Open(t.Context(), imagetest.Source(disk), convert.OpenOptions{Format: convert.Raw})
		require.NoError(t, err)
		o.Unsynced = true
		_, err = convert.ToFile(t.Context(), filepath.Join(dir, name), d, o)
		require.NoError(t, err, name)
		files[name], err = os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
	}
	files["package.ova"] = imagetest.OVA{Digest: "SHA256", Disks: []imagetest.PackedDisk{
		{Name: "stream.vmdk", Data: files["stream.vmdk"], URI: imagetest.URIStream, Capacity: int64(len(disk))}}}.Build()
	return files, map[string]bool{"disk.raw": true, "disk.raw.gz": true, "stream.vmdk": true, "fixed.vhd": true, "package.ova": true}
}

// A badServer gives a file in ranges, and does to the n-th answer, from 0, what
// spoil says; true if that was all.
type badServer struct {
	file  []byte
	spoil func(w http.ResponseWriter, r *http.Request, n int, file []byte) bool
	n     atomic.Int64
}

func (s *badServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"1"`)
	if n := int(s.n.Add(1)) - 1; s.spoil == nil || !s.spoil(w, r, n, s.file) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.file))
	}
}

// A cutWriter breaks the connection after so many bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		w.ResponseWriter.Write(p[:w.left]) //nolint:errcheck // it is the end
		http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

// A drip gives little at a time.
type drip struct{ http.ResponseWriter }

func (w drip) Write(p []byte) (int, error) {
	for at := 0; at < len(p); at += 40_000 {
		if _, err := w.ResponseWriter.Write(p[at:min(at+40_000, len(p))]); err != nil {
			return 0, err
		}
		http.NewResponseController(w.ResponseWriter).Flush()
		time.Sleep(time.Millisecond)
	}
	return len(p), nil
}

// fetch converts what the URL leads to, as the command does.
func fetch(ctx context.Context, url, name, target string) error {
	object, err := httpsource.Get(ctx, url, httpsource.Options{Backoff: time.Millisecond, StallTimeout: 5 * time.Second})
	if err != nil {
		return err
	}
	in, o := io.Reader(object.Stream), convert.OpenOptions{Name: name}
	if object.Source == nil {
		defer object.Stream.Close()
	} else {
		defer object.Source.Close()
		what, err := convert.Wrapped(object.Source, o)
		if err != nil {
			return err
		}
		if what == "" {
			d, err := convert.Open(ctx, object.Source, o)
			if err != nil {
				return err
			}
			_, err = convert.ToFile(ctx, target, d, convert.Options{Unsynced: true})
			return err
		}
		in = io.NewSectionReader(object.Source, 0, object.Source.Size())
	}
	s, err := convert.OpenStream(ctx, in, o)
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = convert.StreamToFile(ctx, target, s, convert.Options{Unsynced: true})
	return err
}

// TestHTTPFaults: an image of any kind that comes from a server is the image
// that the file is, whatever the server does on the way; or nothing, with the
// reason.
func TestHTTPFaults(t *testing.T) {
	disk := make([]byte, 6<<20)
	random := rand.NewChaCha8([32]byte{1})
	for off := 0; off < len(disk); off += 3 << 20 {
		random.Read(disk[off : off+2<<20])
	}
	files, forward := sourceKinds(t, disk)
	for fault, c := range map[string]struct {
		spoil   func(w http.ResponseWriter, r *http.Request, n int, file []byte) bool
		refused error // nil and not wrong: it has to come
		wrong   bool  // an error of no kind
		whole   bool  // the server gives no ranges
	}{
		"none": {},
		"no ranges": {whole: true, spoil: func(w http.ResponseWriter, _ *http.Request, _ int, file []byte) bool {
			w.Write(file) //nolint:errcheck // the client says it
			return true
		}},
		"closed at byte N": {spoil: func(w http.ResponseWriter, r *http.Request, n int, file []byte) bool {
			if n%3 != 1 {
				return false
			}
			http.ServeContent(&cutWriter{w, 1000 * n}, r, "", time.Time{}, bytes.NewReader(file))
			return true
		}},
		"503, then fine": {spoil: func(w http.ResponseWriter, _ *http.Request, n int, _ []byte) bool {
			if n%2 == 0 {
				http.Error(w, "busy", http.StatusServiceUnavailable)
			}
			return n%2 == 0
		}},
		"slow drip": {spoil: func(w http.ResponseWriter, r *http.Request, _ int, file []byte) bool {
			http.ServeContent(drip{w}, r, "", time.Time{}, bytes.NewReader(file))
			return true
		}},
		"another range": {wrong: true, spoil: func(w http.ResponseWriter, r *http.Request, n int, file []byte) bool {
			var from, to int
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to) //nolint:errcheck // what it does not read stays 0
			if n < 2 || from == 0 {
				return false
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from-1, to-1, len(file)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(file[from-1 : to]) //nolint:errcheck // the client says it
			return true
		}},
		"another object": {refused: diskimage.ErrChanged, spoil: func(w http.ResponseWriter, r *http.Request, n int, file []byte) bool {
			if n >= 2 {
				w.Header().Set("ETag", `"2"`)
				r.Header.Del("If-Match")
			}
			return false
		}},
		"a replaced object": {refused: diskimage.ErrChanged, spoil: func(w http.ResponseWriter, _ *http.Request, n int, _ []byte) bool {
			if n >= 2 { // which If-Match keeps from being sent
				w.Header().Set("ETag", `"2"`)
			}
			return false
		}},
	} {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if testing.Short() && name != "deflate.qcow2" && name != "stream.vmdk" && name != "disk.raw.gz" {
				continue
			}
			t.Run(fault+", "+name, func(t *testing.T) {
				t.Parallel()
				s := &badServer{file: files[name], spoil: c.spoil}
				server := httptest.NewServer(s)
				defer server.Close()
				dir := t.TempDir()
				target := filepath.Join(dir, "target")
				err := fetch(t.Context(), server.URL, name, target)
				refused := c.refused
				if c.whole && !forward[name] {
					refused = diskimage.ErrUnsupported
				}
				if !c.whole {
					require.Greater(t, s.n.Load(), int64(2), "requests")
				}
				if refused == nil && !c.wrong {
					require.NoError(t, err)
					got, err := os.ReadFile(target)
					require.NoError(t, err)
					require.True(t, bytes.Equal(disk, got))
					return
				}
				require.Error(t, err)
				if !c.wrong {
					require.ErrorIs(t, err, refused)
				}
				left, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Empty(t, left)
			})
		}
	}
}
