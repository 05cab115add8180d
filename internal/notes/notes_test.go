package notes

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/diskimage-go/diskimage"
)

func TestList(t *testing.T) {
	l := List{Format: "raw"}
	l.Add("entry %d", 1)
	l.Add("entry %d", 1)
	l.Start([]diskimage.Note{{Text: "first"}})
	require.Equal(t, []diskimage.Note{{Text: "first"}, {Format: "raw", Text: "entry 1"}}, l.All())
	for i := range 2 * most {
		l.Add("entry %d", i)
	}
	all := l.All()
	require.Len(t, all, most+1)
	require.Equal(t, diskimage.Note{Format: "raw", Text: "and more of the kind"}, all[most])
	all[0].Text = "changed"
	require.Equal(t, "first", l.All()[0].Text)
}
