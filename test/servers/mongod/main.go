// Command mongod is a MongoDB-wire server for tests, for machines that have no mongod: FerretDB with its SQLite
// backend behind a front that passes one command at a time.
//
// The front is there because that backend does not make a conditional update atomic: two writers that filter on the
// same version can both match. MongoDB lets exactly one of them win, and so does FerretDB when commands do not overlap.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

const (
	headerSize  = 16       // length, request id, response to, opcode: four little-endian int32
	maxMessage  = 48 << 20 // MongoDB's own limit, bytes
	opMsg       = 2013
	moreToCome  = 1 << 1 // flag of OP_MSG: the sender wants no reply
	flagsOffset = headerSize
)

// readMessage reads one whole wire message.
func readMessage(connection io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(connection, length[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(length[:])
	if size < headerSize+4 || size > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	message := make([]byte, size)
	copy(message, length[:])
	_, err := io.ReadFull(connection, message[4:])
	return message, err
}

// wantsReply says whether the server answers this message.
func wantsReply(message []byte) bool {
	if binary.LittleEndian.Uint32(message[12:headerSize]) != opMsg {
		return true
	}
	return binary.LittleEndian.Uint32(message[flagsOffset:flagsOffset+4])&moreToCome == 0
}

// exchange hands one command to the server and returns its reply, nil where none is wanted; no other command runs meanwhile.
func exchange(server net.Conn, command []byte, one *sync.Mutex) ([]byte, error) {
	one.Lock()
	defer one.Unlock()
	if _, err := server.Write(command); err != nil || !wantsReply(command) {
		return nil, err
	}
	return readMessage(server)
}

// serve passes one client's commands on until either side hangs up.
func serve(client net.Conn, socket string, one *sync.Mutex) {
	defer client.Close()
	server, err := net.Dial("unix", socket)
	if err != nil {
		log.Printf("the database does not answer: %v", err)
		return
	}
	defer server.Close()
	for {
		command, err := readMessage(client)
		if err != nil {
			return
		}
		reply, err := exchange(server, command, one)
		if err != nil {
			return
		}
		if _, err := client.Write(reply); err != nil {
			return
		}
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:0", "host:port to listen on; port 0 takes a free one")
	folder := flag.String("folder", "", "where the databases are kept, an existing folder")
	flag.Parse()
	if *folder == "" {
		return errors.New("-folder is missing")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	socket := filepath.Join(*folder, "db.sock")
	_ = os.Remove(socket) // a killed predecessor leaves it behind
	databases := url.URL{Scheme: "file", Opaque: *folder + "/"}
	database, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{Unix: socket},
		Handler:   "sqlite",
		SQLiteURL: databases.String(),
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return err
	}
	front, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s\n", front.Addr())

	go func() {
		<-ctx.Done()
		front.Close()
	}()
	go func() {
		var one sync.Mutex
		for {
			client, err := front.Accept()
			if err != nil {
				return
			}
			go serve(client, socket, &one)
		}
	}()
	return database.Run(ctx)
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
