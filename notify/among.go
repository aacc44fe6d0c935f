package notify

import (
	"slices"
	"strings"

	"gorm.io/gorm"
)

// runLength is from how many ids in a row on they are named by the first and the last.
const runLength = 16

// among names rows by their ids. Rows queued together lie together: a condition of a few ranges is less to write, to parse and to
// look for than one of thousands of numbers.
func among(tx *gorm.DB, ids []int64) *gorm.DB {
	ids = slices.Sorted(slices.Values(ids))
	var single []int64
	var terms []string
	var args []any
	for from := 0; from < len(ids); {
		to := from + 1
		for to < len(ids) && ids[to] == ids[to-1]+1 {
			to++
		}
		if to-from < runLength {
			single = append(single, ids[from:to]...)
		} else {
			terms, args = append(terms, "id BETWEEN ? AND ?"), append(args, ids[from], ids[to-1])
		}
		from = to
	}
	if len(single) > 0 || len(ids) == 0 {
		terms, args = append(terms, "id IN ?"), append(args, single)
	}
	return tx.Model(&Row{}).Where("("+strings.Join(terms, " OR ")+")", args...)
}

func idsOfRows(rows []Row) []int64 {
	ids := make([]int64, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids
}
