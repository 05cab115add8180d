package diskimage_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage/internal/imagetest"
)

// hostileRows are the rows of the list of hostile input: a letter, and numbers.
// Q is of qcow2, V of VMDK, H of VHD, X and D of VHDX and VDI, which are not
// read, R of what a content is taken for and of packages, S of the machine.
const hostileRows = "Q01-12 Q14-37 Q39-42 Q44-45 Q47 Q49-57 V01-08 V11-19 V21-31 V33-37 H01-12 H14 H16-17 H19-22 X01-09 D01 R01-06 R09-16 S01-05"

// shownElsewhere are the rows that no image alone is, and the tests that show
// them. All others are cases of package imagetest, which the formats' tests
// named TestHostileInput read, and the command's TestHostileImages.
var shownElsewhere = map[string][]string{
	"H21": {"vhd.TestSizeRules"},
	"H22": {"vhd.TestWriterSizes", "examples/diskimage.TestConvertToVHD"},
	"R02": {"convert.TestDeclared", "examples/diskimage.TestFormatContradicted"},
	"R12": {"convert.TestImageInsideTheDiskIsNoted"},
	"R13": {"convert.TestOpenFileRefusesWhatIsNoFile", "hostfile.TestRefused", "hostfile.TestFIFOIsRefusedAtOnce"},
	"R14": {"convert.TestHostileWrapping"},
	"R16": {"convert.TestSourceChangesWhileItIsRead", "hostfile.TestShrunkFileIsNoZeros"},
	"S01": {"examples/diskimage.TestStoppedAtAnyStep", "examples/diskimage.TestKilledAtAnyTime", "atomicfile.TestLeftovers"},
	"S02": {"atomicfile.TestFullDisk", "convert.TestSetOnFullDisk"},
	"S03": {"examples/diskimage.TestTargetsRefused", "atomicfile.TestSymbolicLinks"},
	"S04": {"examples/diskimage.TestTargetsRefused", "hostfile.TestSame"},
	"S05": {"convert.TestFailureLeavesWhatStoodThere"},
}

// TestHostileRows holds that there is a case or a test for every row, and
// neither for what is none.
func TestHostileRows(t *testing.T) {
	var rows []string
	for part := range strings.FieldsSeq(hostileRows) {
		var first, last int
		n, _ := fmt.Sscanf(part[1:], "%d-%d", &first, &last)
		if n < 2 {
			last = first
		}
		for ; first <= last; first++ {
			rows = append(rows, fmt.Sprintf("%c%02d", part[0], first))
		}
	}
	shown := map[string]bool{}
	for _, c := range slices.Concat(imagetest.QCOW2Cases(), imagetest.VMDKCases(), imagetest.VHDCases(), imagetest.OVACases(), imagetest.ContentCases()) {
		require.Contains(t, rows, c.ID, c.Name)
		shown[c.ID] = true
	}
	tests := testFunctions(t)
	for id, names := range shownElsewhere {
		require.Contains(t, rows, id)
		require.False(t, shown[id], "%s has cases", id)
		for _, name := range names {
			require.Contains(t, tests, name, id)
		}
		shown[id] = true
	}
	for _, id := range rows {
		require.True(t, shown[id], "nothing shows %s", id)
	}
}
