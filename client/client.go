// Package client runs on every machine that runs tasks. It keeps one session with a server, learns from it what is to run
// here, makes it so through drivers, and reports what became of it. See DESIGN.md beside this file.
package client

import (
	"context"
	"io"

	"cube/api"
)

// Client is one node. New opens its data directory, Run does its work.
type Client struct {
	cfg Config
}

// New opens the data directory and takes its lock. It refuses, with a line that says why, a directory that another client
// uses, that belongs to another node or that a newer version wrote; a damaged state.db is set aside and rebuilt from what
// the drivers find. The caller calls Run, once, which releases everything.
func New(cfg Config) (*Client, error) { return nil, nil }

// Run works until ctx is done, then returns nil when everything is closed. Instances go on running, unless Config.Dev is set.
func (c *Client) Run(ctx context.Context) error { return nil }

// NodeID returns the node's ID: 32 hexadecimal digits, the same over restarts.
func (c *Client) NodeID() string { return "" }

// Incarnation tells this life of the node from its others.
func (c *Client) Incarnation() uint64 { return 0 }

// Current returns the session that the client works with, ok is false while it has none. Others may make calls over it.
func (c *Client) Current() (Conn, bool) { return nil, false }

// CurrentChanged returns a channel that is closed when Current answers differently from now on.
func (c *Client) CurrentChanged() <-chan struct{} { return nil }

// Ping answers at once.
func (c *Client) Ping(ctx context.Context) error { return nil }

// Logs streams the output of an allocation that this node runs, or has run and still keeps; CodeNotFound for any other.
func (c *Client) Logs(ctx context.Context, allocation api.ID, r api.LogRequest) (io.ReadCloser, error) {
	return nil, nil
}

// Stats measures the node's load now.
func (c *Client) Stats(ctx context.Context) (*api.NodeLoad, error) { return nil, nil }
