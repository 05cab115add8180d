module github.com/diskimage-go/diskimage

go 1.26
