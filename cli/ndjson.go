package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"sluice/api"
	"sluice/internal/cloudevent"
)

// shippedMessage is a line of NDJSON: a CloudEvent in its JSON form. attempt is an extension.
type shippedMessage struct {
	cloudevent.Attributes
	Attempt int             `json:"attempt"`
	Data    json.RawMessage `json:"data"`
}

// lineStart begins every line, since it is the first member of each.
const lineStart = `{"specversion":`

// ndjson returns messages, a line each.
func ndjson(messages []api.ReceivedMessage) ([]byte, error) {
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	lines.SetEscapeHTML(false)
	for _, m := range messages {
		if err := lines.Encode(shippedMessage{m.Attributes, m.Attempt, m.Body}); err != nil {
			return nil, fmt.Errorf("message %s: %w", printable(m.ID), err)
		}
	}
	return text.Bytes(), nil
}

// lineFile is a file that is only appended to. What write has returned for is on the disk. Between two writes the file
// may be moved away: then it is created anew.
type lineFile struct {
	path string
	open *os.File // nil: it is opened with the next write
	size int64    // of what was written whole
}

// write appends whole lines. After an error the file ends where it did before, and the same lines may be written again.
func (f *lineFile) write(lines []byte) error {
	if err := f.reopen(); err != nil {
		return err
	}
	_, err := f.open.Write(lines)
	if err == nil {
		err = f.open.Sync()
	}
	if err != nil {
		// After a failed sync the pages may be gone although they look written: only a new file descriptor tells.
		return errors.Join(fmt.Errorf("write to %s: %w", f.path, err), f.open.Truncate(f.size), f.close())
	}
	f.size += int64(len(lines))
	return nil
}

func (f *lineFile) close() error {
	if f.open == nil {
		return nil
	}
	err := f.open.Close()
	f.open = nil
	return err
}

// reopen opens the file unless it is open and still has its name.
func (f *lineFile) reopen() error {
	if f.open != nil {
		named, err := os.Stat(f.path)
		own, err2 := f.open.Stat()
		if err == nil && err2 == nil && os.SameFile(named, own) {
			return nil
		}
		if err := f.close(); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600) // #nosec G304 -- named by the user
	if err != nil {
		return fmt.Errorf("open the file to append to: %w", err)
	}
	size, err := trimmed(file)
	if err == nil {
		err = syncFolder(f.path)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.open, f.size = file, size
	return nil
}

// longestLine is more than any line takes, in bytes.
const longestLine = 128 << 10

// trimmed cuts off a last line without an end. A pump that died has begun it: its message was not acknowledged and
// comes again. It returns the size that is left. A file that ends otherwise is somebody else's.
func trimmed(file *os.File) (int64, error) {
	about, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if !about.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is no file: for a pipe use --out -", file.Name())
	}
	size := about.Size()
	tail := make([]byte, min(size, longestLine))
	if _, err := file.ReadAt(tail, size-int64(len(tail))); err != nil {
		return 0, err
	}
	begun := tail[bytes.LastIndexByte(tail, '\n')+1:]
	if len(begun) == 0 {
		return size, nil
	}
	if n := min(len(begun), len(lineStart)); string(begun[:n]) != lineStart[:n] || int64(len(begun)) == longestLine {
		return 0, fmt.Errorf("%s does not end with a line of ours: choose another file", file.Name())
	}
	size -= int64(len(begun))
	return size, file.Truncate(size)
}

// syncFolder makes the name of a new file outlive a loss of power.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path)) // #nosec G304 -- of the file that the user named
	if err != nil {
		return err
	}
	err = folder.Sync()
	if errors.Is(err, fs.ErrInvalid) || errors.Is(err, errors.ErrUnsupported) { // of some file systems
		err = nil
	}
	return errors.Join(err, folder.Close())
}

// linePipe is what the next program of a pipeline reads.
type linePipe struct{ io.Writer }

func (p linePipe) write(lines []byte) error {
	if _, err := p.Write(lines); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

func (p linePipe) close() error { return nil }
