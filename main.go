// Cube runs tasks on a cluster of machines. This one binary is the server, the client and the command line.
package main

import (
	"os"
	_ "time/tzdata" // so that time zones are known where the system has no files of them

	"cube/command"
)

func main() {
	os.Exit(command.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
