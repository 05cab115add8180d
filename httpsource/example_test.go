package httpsource_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/diskimage-go/diskimage/httpsource"
)

// An object is read where it is needed; what is known to be needed is hinted.
func ExampleGet() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		image := bytes.Repeat([]byte("sixteen bytes ok"), 65536)
		http.ServeContent(w, r, "disk.raw", time.Unix(1e9, 0), bytes.NewReader(image))
	}))
	defer server.Close()

	object, err := httpsource.Get(context.Background(), server.URL+"/disk.raw?signature=secret", httpsource.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if object.Source == nil {
		object.Stream.Close()
		log.Fatal("the server gives no ranges")
	}
	defer object.Source.Close()

	object.Source.Prefetch(1<<19, 1<<18)
	p := make([]byte, 16)
	for off := int64(1 << 19); off < 1<<19+1<<18; off += 1 << 17 {
		if _, err := object.Source.ReadAt(p, off); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s at %d of %d\n", p, off, object.Source.Size())
	}
	fmt.Println(object.Source.Changed())
	// Output:
	// sixteen bytes ok at 524288 of 1048576
	// sixteen bytes ok at 655360 of 1048576
	// <nil>
}
