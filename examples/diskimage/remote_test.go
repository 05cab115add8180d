package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// A fileServer gives the folder's files to those who know the key, in ranges
// unless it is a plain one, and counts the bytes.
type fileServer struct {
	*httptest.Server
	plain atomic.Bool
	bytes atomic.Int64
}

const key = "X-Signature=topsecret"

func serveFiles(t *testing.T) *fileServer {
	s := &fileServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.RawQuery != key { // as a link signed for GET does
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		p, err := os.ReadFile(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		counted := &countedWriter{w, &s.bytes}
		if s.plain.Load() {
			w.Header().Set("Content-Length", fmt.Sprint(len(p)))
			_, _ = counted.Write(p)
			return
		}
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(counted, r, "", time.Time{}, bytes.NewReader(p))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *fileServer) url(name string) string { return s.URL + "/" + name + "?" + key }

type countedWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w *countedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// TestURL: what a URL leads to is the image that the file is, for every verb
// and kind of source, and the URL's key is printed nowhere.
func TestURL(t *testing.T) {
	inFolder(t)
	disk := diskBytes(1<<20 + 512)
	write(t, "disk.raw", disk)
	require.NoError(t, os.Mkdir("spool", 0o700))
	succeed(t, "convert", "-c", "-O", "qcow2", "disk.raw", "disk.qcow2")
	succeed(t, "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "disk.raw", "disk.vmdk")
	succeed(t, "convert", "-O", "vpc", "-o", "force_size", "disk.raw", "disk.vhd")
	succeed(t, "convert", "-O", "vpc", "-o", "force_size,subformat=fixed", "disk.raw", "fixed.vhd")
	write(t, "disk.ova", imagetest.OVA{Digest: "SHA256", Disks: []imagetest.PackedDisk{
		{Name: "disk.vmdk", Data: contents(t, "disk.vmdk"), URI: imagetest.URIStream, Capacity: int64(len(disk))}}}.Build())
	write(t, "disk.raw.gz", imagetest.Gzip(disk))
	server := serveFiles(t)
	silent := func(r result) result {
		require.NotContains(t, r.stdout+r.stderr, "topsecret")
		return r
	}
	forward := map[string]bool{"disk.raw": true, "disk.vmdk": true, "fixed.vhd": true, "disk.ova": true, "disk.raw.gz": true}
	for _, name := range []string{"disk.raw", "disk.qcow2", "disk.vmdk", "disk.vhd", "fixed.vhd", "disk.ova", "disk.raw.gz"} {
		url := server.url(name)
		shown := strings.TrimSuffix(url, "?"+key)
		for _, plain := range []bool{false, true} {
			server.plain.Store(plain)
			r := silent(command(t, "convert", url, "target"))
			if plain && !forward[name] {
				require.Equal(t, 1, r.code)
				require.Contains(t, r.stderr, "--spool")
			} else {
				require.Zero(t, r.code, "%s: %s", name, r.stderr)
				require.True(t, bytes.Equal(disk, contents(t, "target")), name)
			}
			copied := []string{"--spool", "spool"}
			if !plain && name != "disk.raw.gz" {
				copied = nil
			}
			r = silent(command(t, append([]string{"compare", url, "disk.raw"}, copied...)...))
			require.Contains(t, r.stdout, "Images are identical.", r.stderr)
			r = silent(command(t, append([]string{"info", url}, copied...)...))
			require.Zero(t, r.code, r.stderr)
			require.Contains(t, r.stdout, "image: "+shown+"\n")
			if name != "disk.raw.gz" {
				r = silent(command(t, append([]string{"map", "--output=json", url}, copied...)...))
				if want := succeed(t, "map", "--output=json", name); copied == nil && name != "fixed.vhd" { // files have holes
					require.True(t, want == r.stdout, name)
				}
				r = silent(command(t, append([]string{"measure", "-O", "qcow2", url}, copied...)...))
				require.Zero(t, r.code, r.stderr)
				r = silent(command(t, append([]string{"check", url}, copied...)...))
				require.Equal(t, command(t, "check", name).code, r.code, "%s %s %s", name, r.stderr, command(t, "check", name).stderr)
			}
		}
		server.plain.Store(false)
	}
	left, err := os.ReadDir("spool")
	require.NoError(t, err)
	require.Empty(t, left)

	for _, args := range [][]string{
		{"convert", server.url("nothing"), "new"}, {"info", server.url("nothing")}, {"convert", "disk.raw", server.url("new")},
		{"info", server.URL + "/disk.raw?" + key + "x"}, {"compare", server.url("disk.raw"), server.url("nothing")},
		{"info", "http://user:topsecret@%zz/"}, {"convert", "--allow-external", server.url("disk.raw"), "new"},
	} {
		r := silent(command(t, args...))
		require.NotZero(t, r.code, args)
		require.NotEmpty(t, r.stderr)
	}
	require.NoFileExists(t, "new")
}

// TestURLOptions: a server may want a header and tell no version, and what is
// not on the public Internet can be left alone.
func TestURLOptions(t *testing.T) {
	inFolder(t)
	disk := diskBytes(1 << 20)
	write(t, "key", []byte("Authorization: Bearer topsecret\r\nX-More: a:b\n"))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer topsecret" || r.Header.Get("X-More") != "a:b" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(disk))
	}))
	defer server.Close()
	for _, args := range [][]string{{"--header", "@key"}, {"--header", "Authorization: Bearer topsecret", "--header=x-more:a:b"}} {
		r := command(t, append(append([]string{"convert"}, args...), server.URL, "target")...)
		require.Zero(t, r.code, r.stderr)
		require.True(t, bytes.Equal(disk, contents(t, "target")))
		require.Contains(t, r.stderr, "neither an ETag nor a time of modification")
		require.NotContains(t, r.stderr, "topsecret")
		require.NoError(t, os.Remove("target"))
	}
	for want, args := range map[string][]string{
		"401": {}, "only public addresses": {"--public-only"}, "NAME: VALUE": {"--header", "topsecret"},
		"no such file": {"--header", "@none"}, "Range is the source's own": {"--header", "range: bytes=0-1"},
	} {
		r := command(t, append(append([]string{"info"}, args...), server.URL)...)
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, want)
		require.NotContains(t, r.stderr, "topsecret")
	}
}

// TestURLFetchesWhatIsAllocated: of a compressed image little more is fetched
// than what lies in it.
func TestURLFetchesWhatIsAllocated(t *testing.T) {
	inFolder(t)
	f, err := os.Create("disk.raw")
	require.NoError(t, err)
	defer f.Close()
	const virtual = 256 << 20
	require.NoError(t, f.Truncate(virtual))
	for at := int64(0); at < virtual; at += 20 << 20 { // 5 %
		_, err := f.WriteAt(diskBytes(1<<20), at)
		require.NoError(t, err)
	}
	succeed(t, "convert", "-c", "-O", "qcow2", "disk.raw", "disk.qcow2")
	server := serveFiles(t)
	for _, format := range []string{"raw", "qcow2"} {
		server.bytes.Store(0)
		succeed(t, "convert", "-O", format, server.url("disk.qcow2"), "target")
		size := int64(len(contents(t, "disk.qcow2")))
		require.LessOrEqual(t, server.bytes.Load(), size+size/10+4<<20)
		require.Contains(t, succeed(t, "compare", "disk.raw", "target"), "Images are identical.")
	}
}
