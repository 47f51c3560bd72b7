// Package scheduler decides what should run where. Schedule is a pure function from a view of the state and a batch of
// evaluations to a plan: equal arguments give equal plans, on every machine. It reads no clock, draws no numbers, does no
// I/O and keeps nothing between calls.
//
// The way of an evaluation through the package:
//
//	reconcile   compares a job with its allocations, slot by slot: what to stop, keep, change in place, place
//	request     one task's wish for nodes: filters, each able to explain itself, over a columnar view of the nodes
//	score       how much an algorithm likes a node; affinities and spreads are added for every algorithm
//	ranking     the feasible nodes as a heap: the best one is taken, and only what that changed is mended
//	explain     why what is left over could not be placed
//
// DESIGN.md argues for the choices, and against them.
package scheduler
