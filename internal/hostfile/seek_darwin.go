package hostfile

// Of lseek(2): the other way round than everywhere else.
const (
	seekHole = 3
	seekData = 4

	seekEndSizesDevices = false
)
