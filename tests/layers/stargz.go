// Makes an eStargz layer of the archive at standard input, and prints the digest of its table of contents.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/containerd/stargz-snapshotter/estargz"
)

func main() {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	blob, err := estargz.Build(io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), estargz.WithChunkSize(1000))
	if err != nil {
		panic(err)
	}
	defer blob.Close()
	out, err := os.Create(os.Args[1])
	if err != nil {
		panic(err)
	}
	if _, err := io.Copy(out, blob); err != nil {
		panic(err)
	}
	fmt.Println(blob.TOCDigest())
}
