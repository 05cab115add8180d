package vmdk

// CheckMap walks the grain directories and tables of the disk and of the disks
// below it, reads no guest data, and returns an error if anything in them could
// change what a guest reads.
func (d *Disk) CheckMap() error {
	for i := range d.parts {
		if err := d.parts[i].checkMap(); err != nil {
			return d.parts[i].blame(err)
		}
	}
	return d.parent.CheckMap()
}

func (s *sparse) checkMap() error {
	for i := range s.h.tables() {
		t, err := s.table(i)
		if err != nil {
			return err
		}
		if t.entries != nil {
			if err := s.checkTable(t); err != nil {
				return err
			}
		}
	}
	return nil
}
