package httpsource

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseContentRange(t *testing.T) {
	for text, want := range map[string]byteRange{
		"bytes 0-0/1":                   {0, 1, 1},
		"bytes 5-9/10":                  {5, 10, 10},
		"BYTES 0-99/1000":               {0, 100, 1000},
		"bytes */0":                     {0, 0, 0},
		"bytes */77":                    {0, 0, 77},
		"bytes 1-1/9223372036854775807": {1, 2, 1<<63 - 1},
	} {
		got, err := parseContentRange(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", "bytes", "bytes 0-0", "0-0/1", "bytes 0-1/1", "bytes 1-0/5", "bytes 0-0/*", "bytes */*", "bytes -1/5", "bytes 0-/5", "bytes +0-0/5",
		"bytes 0-0/9223372036854775808", "bytes 0-18446744073709551616/5", "items 0-0/1", "bytes=0-0/1", "bytes 0-0/1 ", "bytes  0-0/1", "bytes 0x0-0x0/1", "bytes 0_0-0/1",
	} {
		_, err := parseContentRange(text)
		require.Error(t, err, text)
	}
}
