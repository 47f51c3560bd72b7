// Package contact knows which nodes are reached, and through whom: each server's Registry of the sessions that nodes hold
// with it, the Reporter that tells the leader, the leader's Directory of all, and the Liveness loop that judges silence.
//
// None of it is replicated: sessions outlive a leader, and a new leader is told anew within a round trip.
package contact
