// Package attach carries what a command reads and writes over one connection, between a person and the node where the
// command runs. What lies between them passes the bytes on as they are.
//
// The connection carries frames in both directions: a kind (one byte), a length (four bytes, big-endian) and as many
// bytes. To the node go input and its end, the size of the terminal, and signals; back come output, how much more input
// may be sent, and at last how the command ended. Each side says every fifteen seconds that it is there, and gives up on
// one that it has not heard of for a minute.
//
// Input is sent only as far as the node has room for it, so that a command that reads nothing does not hold up a signal to
// it. Output needs no such account: nothing that must not wait comes behind it.
package attach
