package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// A gRPC health check is one message each way over HTTP/2 without TLS: an empty HealthCheckRequest, which asks for the
// whole server, and a HealthCheckResponse with one number. That is little enough to be written out here; see
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md and doc/health-checking.md.
const (
	grpcMethod  = "/grpc.health.v1.Health/Check"
	grpcPrefix  = 5 // of a message: a flag for compression, and its length in four bytes
	grpcServing = 1
)

func servingNames() []string { return []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"} }

func (p *Prober) probeGRPC(ctx context.Context, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+grpcMethod, bytes.NewReader(make([]byte, grpcPrefix)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	request.Header.Set("User-Agent", "cube-check")
	answer, err := p.grpc.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer is HTTP %d, not gRPC", answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, excerptOf))
	if err != nil {
		return err
	}
	code := answer.Trailer.Get("Grpc-Status")
	message := answer.Trailer.Get("Grpc-Message")
	if code == "" { // an answer without a message has them in its head
		code, message = answer.Header.Get("Grpc-Status"), answer.Header.Get("Grpc-Message")
	}
	if code != "0" {
		if text, err := url.PathUnescape(message); err == nil {
			message = text
		}
		return fmt.Errorf("gRPC status %q %s", code, message)
	}
	serving, err := servingStatus(body)
	if err != nil {
		return err
	}
	if serving == grpcServing {
		return nil
	}
	if names := servingNames(); serving < uint64(len(names)) {
		return errors.New(names[serving])
	}
	return fmt.Errorf("serving status %d", serving)
}

var errNoHealth = errors.New("the answer is no HealthCheckResponse")

// servingStatus reads field 1 of the one message of an answer, a varint; protobuf leaves out what is zero.
func servingStatus(body []byte) (uint64, error) {
	if len(body) < grpcPrefix || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-grpcPrefix) {
		return 0, errNoHealth
	}
	message := body[grpcPrefix:]
	if len(message) == 0 {
		return 0, nil
	}
	const field1 = 1 << 3 // wire type 0
	value, n := binary.Uvarint(message[1:])
	if message[0] != field1 || n <= 0 || 1+n != len(message) {
		return 0, errNoHealth
	}
	return value, nil
}
