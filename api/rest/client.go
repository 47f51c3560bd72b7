package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cube/api"
)

// DefaultAddress is where an agent's HTTP API stands when nothing says otherwise.
const DefaultAddress = "http://127.0.0.1:5555"

// Client is api.Cluster over HTTP. It is safe for concurrent use.
type Client struct {
	base  string // scheme://host, no trailing slash
	shown string // the address as the user gave it, for errors
	http  *http.Client
}

var _ api.Cluster = (*Client)(nil)

// NewClient returns a client of the agent at address: http://host:port, host:port, host (port 5555), or unix:///path. An
// empty address means DefaultAddress. Nothing is dialled yet.
func NewClient(address string) (*Client, error) {
	if address == "" {
		address = DefaultAddress
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second}
	c := &Client{shown: address, http: &http.Client{Transport: transport}}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if path == "" {
			return nil, api.Errorf(api.CodeInvalid, "address %q names no socket; use unix:///path/to/socket", address)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
		c.base = "http://cube"
		return c, nil
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return nil, api.Errorf(api.CodeInvalid, "address %q is not one of http://host:port, host:port, unix:///path", c.shown)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "5555")
	} else if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
		return nil, api.Errorf(api.CodeInvalid, "address %q: port %s is not from 1 to 65535", c.shown, u.Port())
	}
	c.base = (&url.URL{Scheme: u.Scheme, Host: u.Host}).String() // which escapes an IPv6 zone
	c.shown = c.base
	return c, nil
}

// NewTransportClient returns a client whose requests go through rt, for agents that reach each other over sessions.
func NewTransportClient(rt http.RoundTripper) *Client {
	return &Client{base: "http://cube", shown: "the server", http: &http.Client{Transport: rt}}
}

// Address is the address errors name.
func (c *Client) Address() string { return c.shown }

func queryValues(q api.Query) url.Values {
	v := url.Values{}
	if q.Index > 0 {
		v.Set("index", strconv.FormatUint(q.Index, 10))
	}
	if q.Wait > 0 {
		v.Set("wait", q.Wait.String())
	}
	if q.Stale {
		v.Set("stale", "true")
	}
	if q.Prefix != "" {
		v.Set("prefix", q.Prefix)
	}
	return v
}

// path joins escaped segments under /v1.
func path(segments ...string) string {
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return "/v1/" + strings.Join(segments, "/")
}

func get[T any](ctx context.Context, c *Client, path string, q api.Query) (v T, meta api.ReadMeta, err error) {
	if enc := queryValues(q).Encode(); enc != "" {
		path += "?" + enc
	}
	resp, err := c.send(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return v, meta, err
	}
	defer resp.Body.Close()
	meta.Index, _ = strconv.ParseUint(resp.Header.Get(HeaderIndex), 10, 64) // absent where a read has no index
	meta.Stale = resp.Header.Get(HeaderStale) == "true"
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, meta, fmt.Errorf("read the answer of GET %s from %s: %w", path, c.shown, err)
	}
	return v, meta, nil
}

func post[T any](ctx context.Context, c *Client, path string, body any, m api.WriteMeta) (v T, err error) {
	b, err := json.Marshal(body)
	if err != nil {
		return v, fmt.Errorf("encode the request to %s: %w", path, err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	setMeta(header, m)
	resp, err := c.send(ctx, http.MethodPost, path, header, bytes.NewReader(b))
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("read the answer of POST %s from %s: %w", path, c.shown, err)
	}
	return v, nil
}

// setMeta writes what goes with a write into its headers.
func setMeta(header http.Header, m api.WriteMeta) {
	if m.RequestID != "" {
		header.Set(HeaderRequestID, m.RequestID)
	}
	if m.Who != "" {
		header.Set(HeaderWho, m.Who)
	}
}

// send does one request. Any answer but 2xx becomes the *api.Error it carries.
func (c *Client) send(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "%s %s: %w", method, path, err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, answerError(resp, c.shown)
}

// answerError reads the *api.Error out of an answer; what is not one of ours says so.
func answerError(resp *http.Response, from string) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return api.Errorf(api.CodeUnavailable, "read the answer of %s: %w", from, err)
	}
	var e api.Error
	if json.Unmarshal(b, &e) == nil && e.Code != "" {
		return &e
	}
	return api.Errorf(api.CodeInternal, "%s answered %s: %.200s", from, resp.Status, strings.TrimSpace(string(b)))
}

// explain says in words what went wrong on the way to the agent.
func (c *Client) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return api.Errorf(api.CodeUnavailable,
			"no Cube agent answers at %s; start one (cube agent -dev) or name another with -address or CUBE_ADDR", c.shown)
	case errors.Is(err, syscall.EACCES):
		return api.Errorf(api.CodeUnavailable, "permission denied on %s", c.shown)
	case errors.As(err, &dns):
		return api.Errorf(api.CodeUnavailable, "cannot find the host of %s", c.shown)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return api.Errorf(api.CodeUnavailable, "cannot reach the Cube agent at %s: %w", c.shown, err)
}
