// Package rest carries the words of package api over HTTP. Each route's handler and its client method stand side by side
// in one file, so that they cannot drift apart.
//
// Three interfaces travel this way: api.Cluster for people (JSON, on every agent's HTTP address), and api.Dispatcher,
// api.Worker and api.Peer between agents (msgpack, on the streams of their sessions only). The package knows nothing of
// who answers: it is given an implementation to serve and a transport to call through.
package rest
