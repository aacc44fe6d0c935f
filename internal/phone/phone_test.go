package phone_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/phone"
)

func TestNumbersAsWrittenAtHome(t *testing.T) {
	t.Parallel()
	for _, one := range []struct{ region, text, want string }{
		{"CN", "13800138000", "+8613800138000"}, {"CN", "013800138000", "+8613800138000"},
		{"CN", "8613800138000", "+8613800138000"}, {"CN", "008613800138000", "+8613800138000"},
		{"CN", "+14155550123", "+14155550123"}, {"CN", "1380013800", ""}, {"CN", "138-0013-8000", ""},
		{"JP", "09012345678", "+819012345678"}, {"HK", "61234567", "+85261234567"},
		{"RU", "89161234567", "+79161234567"},
		{"US", "4155550123", "+14155550123"}, {"US", "14155550123", "+14155550123"},
		{"HU", "06201234567", "+36201234567"},
		{"", "13800138000", ""}, {"", "+8613800138000", "+8613800138000"}, {"", "+0123456789", ""}, {"", "", ""},
		{"CN", "+", ""}, {"CN", "", ""}, {"", "+1234567", ""}, {"", "+1234567890123456", ""}, {"CN", "１３８００１３８０００", ""},
	} {
		plan, err := phone.PlanOf(one.region)
		require.NoError(t, err)
		got, ok := plan.E164(one.text)
		require.Equal(t, one.want != "", ok, one)
		if ok {
			require.Equal(t, one.want, got, one)
		}
	}
}

func TestEveryPlanReadsANumberOfItsRegion(t *testing.T) {
	t.Parallel()
	_, err := phone.PlanOf("cn")
	require.ErrorContains(t, err, "CN")
	_, list, _ := strings.Cut(err.Error(), "use one of ")
	list, _, _ = strings.Cut(list, ",")
	require.Len(t, strings.Fields(list), 74)
	for region := range strings.FieldsSeq(list) {
		plan, err := phone.PlanOf(region)
		require.NoError(t, err, region)
		readable := false
		for n := 7; n <= 13; n++ {
			_, ok := plan.E164(strings.Repeat("5", n))
			readable = readable || ok
		}
		require.True(t, readable, region)
	}
}
