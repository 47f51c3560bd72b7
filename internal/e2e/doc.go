// Package e2e tests Cube as it is used: the built binary, separate processes on loopback addresses, a real Docker engine,
// processes killed with -9. What the servers say is checked against what docker says.
package e2e
