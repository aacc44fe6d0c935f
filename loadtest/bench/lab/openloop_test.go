package lab

import (
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// listen serves a handler in the test's process.
func listen(t *testing.T, handler http.HandlerFunc) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

func testRequests(t *testing.T, count int) Requests {
	l := &Lab{Dir: t.TempDir(), files: map[string]Requests{}}
	r, err := l.OrdersIn("bench", count)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func accept(w http.ResponseWriter) {
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprint(w, `{"links":{"self":"/order"}}`)
}

func TestSlowAnswersDelayThoseWhoShouldHaveComeMeanwhile(t *testing.T) {
	t.Parallel()
	const each = 10 * time.Millisecond
	addr := listen(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(each) // this is a slow server
		accept(w)
	})
	v, err := Arrive(t.Context(), Arrivals{Addr: addr, Requests: testRequests(t, 20), Rate: 10_000, Count: 20,
		Connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	if v.Status[202] != 20 || len(v.Accepted) != 20 {
		t.Fatalf("%+v", v)
	}
	// All came within 2 ms and were served one by one, so the last has waited for all.
	if last := Percentile(v.Accepted, 100); last < 19*each {
		t.Fatalf("the last shopper waited %s only", last)
	}
}

func TestOneInSoManyOwnersIsFollowedToTheConfirmation(t *testing.T) {
	t.Parallel()
	var polls atomic.Int64
	addr := listen(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			accept(w)
			return
		}
		status := []string{"queued", "confirmed"}[polls.Add(1)%2]
		fmt.Fprintf(w, `{"status":%q}`, status)
	})
	v, err := Arrive(t.Context(), Arrivals{Addr: addr, Requests: testRequests(t, 100), Rate: 5000, Count: 100,
		Connections: 8, FollowEvery: 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Accepted) != 100 || len(v.Confirmed) != 10 || len(v.Late) != 100 {
		t.Fatalf("%d accepted, %d followed, %d sent", len(v.Accepted), len(v.Confirmed), len(v.Late))
	}
}

func TestAnOwnerWhoReadsAnythingElseEndsTheMeasurement(t *testing.T) {
	t.Parallel()
	addr := listen(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			accept(w)
			return
		}
		fmt.Fprint(w, `{"status":"failed"}`)
	})
	_, err := Arrive(t.Context(), Arrivals{Addr: addr, Requests: testRequests(t, 1), Rate: 1000, Count: 1,
		Connections: 1, FollowEvery: 1})
	wantRefusal(t, err, "an owner who waits was answered 200")
}

// TestShoppersWhoWaitInsideTheGeneratorWereNotSent has a generator that can send 200/s and a schedule of 5,000/s.
func TestShoppersWhoWaitInsideTheGeneratorWereNotSent(t *testing.T) {
	t.Parallel()
	addr := listen(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(10 * time.Millisecond) // a server so slow that two connections cannot keep to the schedule
		accept(w)
	})
	a := Arrivals{Addr: addr, Requests: testRequests(t, 200), Rate: 5000, Count: 200, Connections: 2}
	v, err := Arrive(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, v.Check(a), "shoppers found all its 2 connections in use")
	if v.Sent < 90*10*time.Millisecond {
		t.Errorf("all were sent within %s, the connections alone need a second", v.Sent)
	}
	v.Crowded = 0
	wantRefusal(t, v.Check(a), "to send what its schedule has in 40ms")
	v.Sent = a.planned()
	wantRefusal(t, v.Check(a), "behind its schedule (p99)")
}
