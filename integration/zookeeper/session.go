package zookeeper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// KillSession ends a client's session as if it had expired, by its id (the
// ephemeralOwner of one of its nodes): a second client resumes the session and
// closes it. Its ephemeral nodes are gone when KillSession returns nil; the
// client learns of the expiry when it reconnects, at once.
func (s *Server) KillSession(ctx context.Context, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for try := 0; ; try++ {
		err := s.tryKillSession(ctx, id)
		// Resuming a session breaks its other connection, and a client that
		// reconnects at once breaks ours, before or after the session's end.
		if try > 0 && errors.Is(err, errNoSession) {
			return nil
		}
		if err == nil || errors.Is(err, errNoSession) || ctx.Err() != nil {
			return err
		}
	}
}

var errNoSession = errors.New("the server knows no such session")

func (s *Server) tryKillSession(ctx context.Context, id int64) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return fmt.Errorf("kill session %#x: %w", id, err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if err := killSession(conn, id); err != nil {
		return fmt.Errorf("kill session %#x: %w", id, err)
	}
	return nil
}

// killSession sends both requests at once, to be faster than the client.
func killSession(conn io.ReadWriter, id int64) error {
	// ConnectRequest: protocol version, last zxid seen, timeout in ms, session
	// id, password.
	connect := binary.BigEndian.AppendUint32(nil, 0)
	connect = binary.BigEndian.AppendUint64(connect, 0)
	connect = binary.BigEndian.AppendUint32(connect, 10_000)
	connect = binary.BigEndian.AppendUint64(connect, uint64(id))
	connect = append(binary.BigEndian.AppendUint32(connect, passwordSize), sessionPassword(id)...)
	// RequestHeader: xid, closeSession (-11).
	closing := binary.BigEndian.AppendUint32(nil, 1)
	closing = binary.BigEndian.AppendUint32(closing, 0xfffffff5)
	if _, err := conn.Write(append(packet(connect), packet(closing)...)); err != nil {
		return err
	}
	// ConnectResponse: protocol version, timeout, session id, password.
	resp, err := readPacket(conn)
	if err != nil {
		return err
	}
	if len(resp) < 16 || int64(binary.BigEndian.Uint64(resp[8:])) != id {
		return errNoSession
	}
	_, err = readPacket(conn)
	return err
}

const passwordSize = 16

// sessionPassword is the password of a session, which ZooKeeper derives from
// the id (ZooKeeperServer.generatePasswd): the first bytes of java.util.Random
// seeded with the id and a constant.
func sessionPassword(id int64) []byte {
	const (
		superSecret = 0xB3415C00
		multiplier  = 0x5DEECE66D
		mask        = 1<<48 - 1
	)
	seed := (id ^ superSecret ^ multiplier) & mask
	var p []byte
	for len(p) < passwordSize {
		seed = (seed*multiplier + 0xB) & mask
		p = binary.LittleEndian.AppendUint32(p, uint32(seed>>16))
	}
	return p
}

func packet(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func readPacket(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 1<<20 {
		return nil, fmt.Errorf("packet of %d bytes", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}
