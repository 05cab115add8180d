package main

import (
	"context"
	"io"
)

// patient is a pipe that may have nothing to give for a long time: a Read ends
// when the context does. The read of the pipe that is then under way goes on
// until the pipe or the process ends; its bytes are lost.
type patient struct {
	ctx  context.Context
	r    io.Reader
	buf  []byte
	left []byte // of buf, not handed out yet
	err  error  // for when nothing is left
	done chan read
}

type read struct {
	n   int
	err error
}

func (p *patient) Read(b []byte) (int, error) {
	if len(p.left) == 0 && p.err != nil {
		return 0, p.err
	}
	if len(p.left) == 0 {
		if p.buf == nil {
			p.buf, p.done = make([]byte, 1<<20), make(chan read, 1)
		}
		go func() {
			n, err := p.r.Read(p.buf)
			p.done <- read{n, err}
		}()
		select {
		case got := <-p.done:
			p.left, p.err = p.buf[:got.n], got.err
			if got.n == 0 {
				return 0, got.err
			}
		case <-p.ctx.Done():
			return 0, context.Cause(p.ctx)
		}
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}
