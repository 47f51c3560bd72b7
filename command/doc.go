// Package command is what a person types: one file a command, all of them speaking to the cluster through api.Cluster.
//
// A command is a value of the type command: what its help says, its flags and a function. The function returns an error;
// what goes on the screen, where, and which exit code follows is decided in one place (command.go). Nothing here knows
// Raft, the state or the scheduler, and nothing reads a clock or a terminal but through Meta, so that every command can
// be run in a test against an in-memory cluster.
//
// cube top is drawn by bubbletea, in version 2: version 1 asks the terminal for its colours in an init function, which every
// command would run, also those that are given what a person types next.
package command
