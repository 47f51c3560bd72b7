package gossip

import (
	"encoding/binary"

	"github.com/hashicorp/memberlist"
)

// farewell is gossiped beside memberlist's own word that a member is gone, which does not tell its delegates whether it
// went on purpose. The two travel independently: see table.farewell. It names the life it ends, so that a late one does
// no harm to an agent that is back.
type farewell struct {
	name string
	life uint64
	sent chan struct{} // closed when it has been passed on often enough; nil if nobody waits
}

const farewellVersion = 1

func decodeFarewell(b []byte) (farewell, bool) {
	if len(b) == 0 || b[0] != farewellVersion {
		return farewell{}, false
	}
	life, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return farewell{}, false
	}
	return farewell{name: string(b[1+n:]), life: life}, true
}

// Message, Finished, Invalidates and Name make it a memberlist.NamedBroadcast.
func (f farewell) Message() []byte {
	return append(binary.AppendUvarint([]byte{farewellVersion}, f.life), f.name...)
}

func (f farewell) Finished() {
	if f.sent != nil {
		close(f.sent)
	}
}

func (f farewell) Invalidates(memberlist.Broadcast) bool { return false }
func (f farewell) Name() string                          { return f.name }
