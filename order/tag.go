package order

import (
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// tagInstance is how much of an instance's name fits behind the UUID: batch_id
// holds 48 characters. The end of a name is what tells instances apart.
const tagInstance = 11

// NewTag names one run of a transaction: no two are alike. It says when the run began and where, so that a timeline
// needs no row of its own for that.
func NewTag(now time.Time, instance string) string {
	id := uuid.Must(uuid.NewV7())
	ms := now.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i)) // #nosec G115 -- one byte of it
	}
	instance = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '-'
		}
		return r
	}, instance)
	return id.String() + "@" + instance[max(0, len(instance)-tagInstance):]
}

// ReadTag reads what NewTag wrote; at is zero for a tag without a time.
func ReadTag(tag string) (at time.Time, instance string) {
	name, instance, _ := strings.Cut(tag, "@")
	id, err := uuid.Parse(name)
	if err != nil || id.Version() != 7 {
		return time.Time{}, instance
	}
	ms := int64(0)
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return Time(ms), instance
}

// instanceMark begins what stands for a process where a text does.
const instanceMark = "#"

// InstanceMark stands for the process of a number where a text does.
func InstanceMark(number int64) string { return instanceMark + strconv.FormatInt(number, 10) }

// InstanceOf reads what InstanceMark wrote; it returns 0 for any other text.
func InstanceOf(mark string) int64 {
	text, _ := strings.CutPrefix(mark, instanceMark)
	if text == mark {
		return 0
	}
	number, _ := strconv.ParseInt(text, 10, 64)
	return number
}
