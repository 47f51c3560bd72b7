// Package packing replays a cluster's trace through Cube's scheduler and through re-implementations of what other
// orchestrators do, and says how much of what was asked for each of them places, and on how few nodes.
//
// Cube's scheduler is the real one: an evaluation for each arrival, on a scheduler.World. The others decide on a light
// model of the nodes (CPU, memory, what is left of each GPU). Every placement, of whichever algorithm, is checked against
// that model, and so is every refusal: an algorithm that refuses what a node could take fails the run.
package packing
