// Package cubetest runs whole clusters in one process: the real agents, their real HTTP, sessions, Raft and gossip, over an
// in-memory network and with the fake driver. In a bubble of virtual time (see memnet.Bubble) a minute of cluster life
// takes a fraction of a second.
//
// What is not real here: the network (memnet), the containers (driver/fake), time. Raft's log and the clients' state files
// are on disk. Whole processes, Docker and kill -9 are for internal/e2e.
package cubetest
