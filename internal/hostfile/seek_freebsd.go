package hostfile

// Of lseek(2).
const (
	seekData = 3
	seekHole = 4

	seekEndSizesDevices = false
)
