package gossip

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"cube/api"
)

// What a member says of itself, version 1:
//
//	version, 1 byte | flags, 1 byte | life, uvarint | expect, uvarint |
//	datacenter, version, RPC address, HTTP address, cluster, node ID, name
//
// Life tells two lives of one agent apart. Each string is written as one length byte and that many bytes. Later additions go behind the name; a reader ignores what it does
// not know. Role and ID are in the member's name, its address is memberlist's business.
const (
	metaVersion = 1

	flagHasState = 1 << 0
)

// encodeMeta cuts the name short if the rest leaves too little room for it.
func encodeMeta(m api.Member, life uint64) ([]byte, error) {
	var flags byte
	if m.HasState {
		flags |= flagHasState
	}
	if m.NodeID == m.ID {
		m.NodeID = "" // a client's, which the name says
	}
	b := []byte{metaVersion, flags}
	b = binary.AppendUvarint(b, life)
	b = binary.AppendUvarint(b, uint64(max(m.Expect, 0)))
	for _, s := range []string{m.Datacenter, m.Version, m.RPCAddr, m.HTTPAddr, m.ClusterID, m.NodeID} {
		if len(s) > 255 {
			return nil, api.Errorf(api.CodeTooLarge, "%.20q... is longer than 255 bytes", s)
		}
		b = append(append(b, byte(len(s))), s...)
	}
	room := min(memberlist.MetaMaxSize-len(b)-1, 255)
	if room < 0 {
		return nil, api.Errorf(api.CodeTooLarge, "datacenter, version, addresses and IDs take %d bytes; there is room for %d", len(b), memberlist.MetaMaxSize)
	}
	name := cut(m.Name, room)
	return append(append(b, byte(len(name))), name...), nil
}

// cut shortens s to at most n bytes and to whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// decodeNode makes a Member of what gossip says, with status alive.
func decodeNode(n *memberlist.Node) (m api.Member, life uint64, err error) {
	role, id, ok := strings.Cut(n.Name, ":")
	m = api.Member{ID: id, Role: api.Role(role), Status: api.MemberAlive, GossipAddr: n.Address()}
	if !ok || id == "" || m.Role != api.RoleServer && m.Role != api.RoleClient {
		return m, 0, fmt.Errorf("%.80q is not the name of a Cube agent", n.Name)
	}
	b := n.Meta
	if len(b) < 2 || b[0] != metaVersion {
		return m, 0, fmt.Errorf("%s describes itself in a format that this version of Cube does not know", n.Name)
	}
	m.HasState = b[1]&flagHasState != 0
	b = b[2:]
	var expect uint64
	for _, v := range []*uint64{&life, &expect} {
		var size int
		if *v, size = binary.Uvarint(b); size <= 0 {
			return m, 0, fmt.Errorf("%s describes itself in a damaged way", n.Name)
		}
		b = b[size:]
	}
	m.Expect = int(min(expect, 1<<16))
	for _, s := range []*string{&m.Datacenter, &m.Version, &m.RPCAddr, &m.HTTPAddr, &m.ClusterID, &m.NodeID, &m.Name} {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return m, 0, fmt.Errorf("%s describes itself in a damaged way", n.Name)
		}
		*s = strings.ToValidUTF8(string(b[1:1+int(b[0])]), "?")
		b = b[1+int(b[0]):]
	}
	if m.NodeID == "" && m.Role == api.RoleClient {
		m.NodeID = m.ID
	}
	return m, life, nil
}

func memberName(m api.Member) string { return string(m.Role) + ":" + m.ID }

// foreign reports whether two clusters are known to differ.
func foreign(a, b string) bool { return a != "" && b != "" && a != b }
