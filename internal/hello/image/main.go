// Command image builds the hello program and imports it into this machine's Docker engine:
//
//	go run ./internal/hello/image [-tag cube/hello:1]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"cube/internal/hello/helloimage"
)

func main() {
	tag := flag.String("tag", helloimage.Tag, "`name` of the image")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := helloimage.EnsureTag(ctx, *tag); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Println(*tag)
}
