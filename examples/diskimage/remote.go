package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/diskimage-go/diskimage"
	"github.com/diskimage-go/diskimage/httpsource"
	"github.com/diskimage-go/diskimage/internal/hostfile"
	"github.com/diskimage-go/diskimage/internal/spool"
)

// A remote is an operand that is a URL. It is opened once, however often the
// image in it is.
type remote struct {
	url    string // with its secrets
	object *httpsource.Object
	copy   *hostfile.File // of what the server does not give in ranges
}

var isURL = regexp.MustCompile(`^(?i:https?)://`)

// conceal takes the URLs out of args and puts names in their place, which may
// be printed: a URL's query string can be a key.
func (s *session) conceal(args []string) ([]string, error) {
	var shown []string
	for _, arg := range args {
		if isURL.MatchString(arg) {
			u, err := url.Parse(arg)
			if err != nil {
				return nil, errors.New("a URL among the operands is none") // whose error would print it
			}
			name := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
			for s.remotes[name] != nil && s.remotes[name].url != arg {
				name += "'"
			}
			if s.remotes == nil {
				s.remotes = map[string]*remote{}
			}
			if s.remotes[name] == nil {
				s.remotes[name] = &remote{url: arg}
			}
			arg = name
		}
		shown = append(shown, arg)
	}
	return shown, nil
}

// openRemote asks for a URL.
func (in *input) openRemote(ctx context.Context, r *remote) (err error) {
	if r.object == nil {
		r.object, err = httpsource.Get(ctx, r.url, in.http)
	}
	return err
}

// addHeader takes a header field for requests, "NAME: VALUE", or with "@FILE"
// those in the lines of a file, which no list of processes shows. Neither is
// printed: it may be a key.
func (in *input) addHeader(v string) error {
	lines := []string{v}
	if file, ok := strings.CutPrefix(v, "@"); ok {
		text, err := os.ReadFile(file)
		if err != nil {
			return about("--header", err)
		}
		lines = strings.Split(strings.TrimRight(string(text), "\r\n"), "\n")
	}
	if in.http.Header == nil {
		in.http.Header = http.Header{}
	}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return errors.New("--header: what is given is not of the form NAME: VALUE")
		}
		in.http.Header.Add(name, strings.TrimSpace(value))
	}
	return nil
}

func (r *remote) close() {
	if r.copy != nil {
		r.copy.Close()
	}
	switch {
	case r.object == nil:
	case r.object.Source != nil:
		r.object.Source.Close()
	default:
		r.object.Stream.Close()
	}
}

// A keptSource is a remote's file: closing the disk in it leaves it open.
type keptSource struct{ *httpsource.Source }

func (keptSource) Close() error { return nil }

// remoteSource returns a remote for random access: a copy, where the server
// does not give ranges and one is wanted.
func (in *input) remoteSource(ctx context.Context, s *session, r *remote) (source, error) {
	if err := in.openRemote(ctx, r); err != nil {
		return nil, err
	}
	switch {
	case r.object.Source != nil:
		return keptSource{r.object.Source}, nil
	case r.copy != nil:
		return unclosed{r.copy}, nil
	case in.spool == "":
		return nil, errors.New("the server gives no ranges, and this reads here and there: --spool DIR makes a copy in a file")
	}
	var err error
	if r.copy, err = spool.Fill(ctx, r.object.Stream, in.spool); err != nil {
		return nil, fmt.Errorf("--spool: %w", err)
	}
	return unclosed{r.copy}, nil
}

// remoteStream returns a remote that is to be read front to back, and nil if
// there is more that can be done with it.
func (in *input) remoteStream(ctx context.Context, s *session, r *remote) (io.Reader, error) {
	if err := in.openRemote(ctx, r); err != nil {
		return nil, err
	}
	if r.object.Stream == nil || in.spool != "" {
		return nil, nil
	}
	return r.object.Stream, nil
}

// A remoteInfo is what is known of a remote's file.
type remoteInfo struct {
	name string
	size int64
}

func (i remoteInfo) Name() string     { return path.Base(i.name) }
func (i remoteInfo) Size() int64      { return i.size }
func (remoteInfo) Mode() fs.FileMode  { return 0o444 }
func (remoteInfo) ModTime() time.Time { return time.Time{} }
func (remoteInfo) IsDir() bool        { return false }
func (remoteInfo) Sys() any           { return nil }

var _ diskimage.Prefetcher = keptSource{}
