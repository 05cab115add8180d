package inflate

import "io"

// block decodes the symbols of a compressed block.
func (d *Decoder) block(t *tables) error {
	if done, err := d.fast(t); done || err != nil {
		return err
	}
	return d.careful(t)
}

// careful decodes symbols to the end of the block, one at a time.
func (d *Decoder) careful(t *tables) error {
	for {
		d.refill()
		e := t.lit[d.buf&(1<<litBits-1)]
		if e&isSpecial != 0 && e&isPointer != 0 {
			if err := d.skip(litBits); err != nil {
				return err
			}
			e = t.lit[(e>>16+uint32(d.buf)&(1<<(e>>10&15)-1))&uint32(len(t.lit)-1)]
		}
		saved := d.buf
		// Of two literals at once the second may be made of bits that are not
		// there, at the very end of the input. Then the input is too short for
		// the end of the block as well.
		if err := d.skip(uint(e & 63)); err != nil {
			return err
		}
		if e&isLiteral != 0 {
			n := int(e & isLiteral / oneLiteral)
			if n > len(d.dst)-d.out {
				return ErrTooLong
			}
			for ; n > 0; n-- {
				d.dst[d.out] = byte(e >> 16)
				d.out++
				e >>= 8
			}
			continue
		}
		if e&isSpecial != 0 {
			if e>>16 != 0 {
				return errSymbol
			}
			return nil
		}
		length := int(e>>16&511) + int(uint32(saved>>(e>>10&63))&(e>>25))

		d.refill()
		f := t.dist[d.buf&(1<<distBits-1)]
		if f&isSpecial != 0 && f&isPointer != 0 {
			if err := d.skip(distBits); err != nil {
				return err
			}
			f = t.dist[(f>>16+d.buf&(1<<(f>>10&15)-1))&uint64(len(t.dist)-1)]
		}
		saved = d.buf
		if err := d.skip(uint(f & 63)); err != nil {
			return err
		}
		if f&isSpecial != 0 {
			return errSymbol
		}
		distance := int(f>>16&0xffff) + int(saved>>(f>>10&63)&(f>>32))
		if distance > d.out {
			return errDistance
		}
		d.far = max(d.far, distance)
		if length > len(d.dst)-d.out {
			return ErrTooLong
		}
		for ; length > 0; length-- {
			d.dst[d.out] = d.dst[d.out-distance]
			d.out++
		}
	}
}

// skip takes n bits away, at most 63.
func (d *Decoder) skip(n uint) error {
	if d.cnt < n {
		return io.ErrUnexpectedEOF
	}
	d.buf >>= n & 63
	d.cnt -= n
	return nil
}
