package qcow2

import (
	"testing"

	"github.com/diskimage-go/diskimage/internal/disktest"
)

func TestMain(m *testing.M) { disktest.Main(m) }
