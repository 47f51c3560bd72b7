package gossip

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"

	"cube/api"
)

func TestMetaRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		short := rapid.StringN(0, 20, 60)
		want := api.Member{
			Role: rapid.SampledFrom([]api.Role{api.RoleServer, api.RoleClient}).Draw(t, "role"), ID: "id", Status: api.MemberAlive,
			GossipAddr: "10.0.0.1:5557",
			Name:       rapid.StringN(0, 300, -1).Draw(t, "name"),
			Datacenter: short.Draw(t, "dc"), Version: short.Draw(t, "version"), RPCAddr: short.Draw(t, "rpc"),
			HTTPAddr: short.Draw(t, "http"), ClusterID: short.Draw(t, "cluster"),
			HasState: rapid.Bool().Draw(t, "state"), Expect: rapid.IntRange(0, 9).Draw(t, "expect"),
		}
		if want.NodeID = want.ID; want.Role == api.RoleServer {
			want.NodeID = short.Draw(t, "node")
		}
		life := rapid.Uint64().Draw(t, "life")
		b, err := encodeMeta(want, life)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > memberlist.MetaMaxSize {
			t.Fatalf("%d bytes", len(b))
		}
		b = append(b, "a later addition"...)
		got, lived, err := decodeNode(&memberlist.Node{Name: memberName(want), Addr: []byte{10, 0, 0, 1}, Port: 5557, Meta: b})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(want.Name, got.Name) || !utf8.ValidString(got.Name) {
			t.Fatalf("the name %q became %q", want.Name, got.Name)
		}
		if len(want.Name) < 100 && got.Name != want.Name {
			t.Fatalf("the name %q was cut to %q", want.Name, got.Name)
		}
		got.Name = want.Name
		if got != want || lived != life {
			t.Fatalf("%+v became %+v", want, got)
		}
	})
}

func FuzzDecodeNode(f *testing.F) {
	b, err := encodeMeta(server(1), 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("server:s1", b)
	f.Add("consul-1", []byte{1, 0, 0})
	f.Add("client:", []byte{1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, name string, meta []byte) {
		m, _, err := decodeNode(&memberlist.Node{Name: name, Meta: meta})
		if err == nil && (m.ID == "" || m.Role == "" || !utf8.ValidString(m.Name)) {
			t.Errorf("%q %x became %+v", name, meta, m)
		}
	})
}

// shortVersions is a state exchange that makes memberlist 0.6 panic.
func shortVersions(t *testing.T) []byte { return exchange(t, 1, 1, []byte{1}) }

func exchange(t *testing.T, nodes, sent int, versions []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteByte(msgPushPull)
	enc := codec.NewEncoder(&b, &codec.MsgpackHandle{})
	if err := enc.Encode(map[string]any{"Nodes": nodes, "UserStateLen": 0, "Join": true}); err != nil {
		t.Fatal(err)
	}
	for range sent {
		state := map[string]any{"Name": "server:x", "Addr": []byte{127, 0, 0, 1}, "Port": 1, "Meta": []byte("m"), "Incarnation": 1, "State": 0, "Vsn": versions}
		if err := enc.Encode(state); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestTheGuardLetsOnlyHarmlessStreamsThrough(t *testing.T) {
	six := []byte{1, 5, 2, 0, 0, 0}
	for name, c := range map[string]struct {
		sent []byte
		ok   bool
	}{
		"a ping":            {[]byte("\x00ping"), true},
		"an exchange":       {exchange(t, 3, 3, six), true},
		"short versions":    {exchange(t, 1, 1, []byte{1}), false},
		"no versions":       {exchange(t, 1, 1, nil), false},
		"fewer than said":   {exchange(t, 4, 3, six), false},
		"two billion":       {exchange(t, 2_000_000_000, 0, nil), false},
		"a negative number": {exchange(t, -1, 0, nil), false},
		"a user message":    {[]byte("\x08\x81\xaaUserMsgLen\x01x"), false},
		"compressed":        {[]byte("\x09..."), false},
		"encrypted":         {[]byte("\x0a\xff\xff\xff\xff"), false},
		"HTTP":              {[]byte("GET / HTTP/1.1\r\n\r\n"), false},
		"nothing":           {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := vet(io.MultiReader(bytes.NewReader(c.sent)))
			if !c.ok {
				if err == nil {
					t.Error("let through")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, c.sent) {
				t.Errorf("%q became %q, %v", c.sent, got, err)
			}
		})
	}
}

func TestTheGuardLetsOnlyHarmlessPacketsThrough(t *testing.T) {
	compound := func(parts ...string) string {
		head, body := string([]byte{msgCompound, byte(len(parts))}), ""
		for _, p := range parts {
			head += string(binary.BigEndian.AppendUint16(nil, uint16(len(p))))
			body += p
		}
		return head + body
	}
	for name, c := range map[string]struct {
		packet string
		ok     bool
	}{
		"a ping":                  {"\x00ping", true},
		"with a checksum":         {"\x0c1234\x04alive", true},
		"several":                 {compound("\x00ping", "\x04alive", "\x08farewell"), true},
		"several, checked":        {"\x0c1234" + compound("\x00ping", "\x05dead"), true},
		"nothing":                 {"", false},
		"compressed":              {"\x09...", false},
		"compressed, checked":     {"\x0c1234\x09...", false},
		"compressed among others": {compound("\x00ping", "\x09..."), false},
		"several in several":      {compound(compound("\x00ping")), false},
		"checksums in checksums":  {"\x0c1234\x0c1234\x00ping", false},
		"fewer than said":         {"\x07\x05\x00\x01", false},
		"shorter than said":       {"\x07\x01\x00\xff\x00ping", false},
		"an empty one":            {compound("\x00ping", ""), false},
		"a state exchange":        {"\x06...", false},
		"encrypted":               {"\x0a...", false},
		"labelled":                {"\xf4\x03abc\x00ping", false},
		"text":                    {"GET / HTTP/1.1", false},
	} {
		if got := harmless([]byte(c.packet)); got != c.ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzHarmless(f *testing.F) {
	f.Add([]byte("\x07\x02\x00\x02\x00\x01\x00p\x04"))
	f.Fuzz(func(t *testing.T, b []byte) { harmless(b) })
}

func FuzzVet(f *testing.F) {
	f.Add([]byte("\x06\x83\xa5Nodes\x01\xacUserStateLen\x00\xa4Join\xc3\x81\xa3Vsn\xc4\x06123456"))
	f.Add([]byte("\x06\xdf\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := vet(bytes.NewReader(b)); err == nil {
			if got, _ := io.ReadAll(r); !bytes.Equal(got, b) {
				t.Errorf("%x became %x", b, got)
			}
		}
	})
}
