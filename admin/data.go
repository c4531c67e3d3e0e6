package admin

import "time"

// Data are the functions that the pages of JSON get their answers from. Each is called once
// a request, and concurrently. The names of the fields below are stable.
type Data struct {
	Calls        func(CallQuery) Calls
	StopCall     func(Stop) Stopped
	Connections  func() Connections
	Backends     func() Backends
	Routes       func() Routes
	Memory       func(holders int) Memory // with at most so many calls, connections and addresses
	Limits       func() Limits
	Failures     func(FailureQuery) Failures
	Certificates func() Certificates
	Auth         func() Auth
}

// A CallQuery selects open calls. Empty fields select all.
type CallQuery struct {
	Order string // one of Orders
	Limit int    // how many calls at most; at least 1

	ID, Route, Backend, Transport, Listener, WaitsFor string // exactly
	Method, Peer, Identity                            string // a part of it. Identity: of the identity or of the certificate's name
}

// Orders are those that open calls can have. The first of an order has the most: the oldest,
// the one that has been quiet or has waited longest.
var Orders = []string{"age", "messages", "bytes", "memory", "last_message", "waiting"}

// What Call.WaitsFor may be.
const (
	WaitsNot        = ""        // for nobody that culvert knows of
	WaitsForClient  = "client"  // the client doesn't read what is ready for it
	WaitsForBackend = "backend" // the backend doesn't read what is ready for it
	WaitsForMemory  = "memory"  // there is no room for the call or for one of its messages
	WaitsForPlace   = "place"   // the backend has no connection with a place for the call
	WaitsForAnswer  = "answer"  // the backend has a request, and has sent no reply yet
)

// WaitsForAny is what CallQuery.WaitsFor may be, too: it selects all calls that wait.
const WaitsForAny = "any"

// WaitsFor are the values of Call.WaitsFor but WaitsNot.
var WaitsFor = []string{WaitsForClient, WaitsForBackend, WaitsForMemory, WaitsForPlace, WaitsForAnswer}

// Calls are some of the open calls, in the order asked for.
type Calls struct {
	At       time.Time    `json:"at"` // when culvert looked
	Open     int          `json:"open"`
	Matching int          `json:"matching"` // of these, by the filters
	Waiting  WaitingCalls `json:"waiting"`  // those that wait, by all filters but waits_for
	Calls    []Call       `json:"calls"`    // the first of these
}

// WaitingCalls is how many calls wait, by what they wait for.
type WaitingCalls struct {
	Client  int `json:"client"`  // for the client to read
	Backend int `json:"backend"` // for the backend to read
	Memory  int `json:"memory"`
	Place   int `json:"place"`  // for a place on a connection
	Answer  int `json:"answer"` // for the backend's first reply
}

// A Call is an open call.
type Call struct {
	ID        Text `json:"id"`        // as in the log; a client may use one twice
	Method    Text `json:"method"`    // /package.Service/Method
	Route     Text `json:"route"`     // empty: none, or not decided yet
	Backend   Text `json:"backend"`   // empty: none, or not decided yet
	Transport Text `json:"transport"` // as in the log
	Listener  Text `json:"listener"`  // empty: it has no name
	Peer      Text `json:"peer"`      // the client's address
	Client    Text `json:"client"`    // the name in the client's certificate
	Identity  Text `json:"identity"`  // with auth

	Began       time.Time `json:"began"` // to the nanosecond
	AgeSeconds  float64   `json:"age_seconds"`
	MessagesIn  int64     `json:"messages_in"`  // from the client
	MessagesOut int64     `json:"messages_out"` // to the client
	BytesIn     int64     `json:"bytes_in"`
	BytesOut    int64     `json:"bytes_out"`
	MemoryBytes int64     `json:"memory_bytes"`

	// The server looks once a second, and knows of nothing shorter.
	LastMessage    time.Time `json:"last_message,omitzero"` // either way; absent: there was none
	WaitsFor       string    `json:"waits_for"`             // client, backend, memory, place, answer, or empty
	WaitingSeconds float64   `json:"waiting_seconds"`
}

// A Stop asks for the end of one call.
type Stop struct {
	ID    string
	Began time.Time // Call.Began; zero: only one open call has the ID
	By    string    // who asks, for the log
}

// Stopped is what became of a Stop.
type Stopped struct {
	Stopped int  `json:"stopped"`        // calls that end: 1
	Call    Call `json:"call"`           // as it was
	Found   int  `json:"found,omitzero"` // open calls with the ID, if there are several
}

// Connections are the open connections of clients.
type Connections struct {
	At          time.Time         `json:"at"`
	Connections []ConnectionCount `json:"connections"` // without zeros
	Calls       []CallCount       `json:"calls"`       // without zeros
}

// A ConnectionCount is the number of a listener's connections of one kind.
type ConnectionCount struct {
	Listener  Text `json:"listener"`
	Transport Text `json:"transport"` // http/1.1, h2, websocket; empty: no request has come yet
	Open      int  `json:"open"`
	Tunnels   int  `json:"tunnels"` // of these, h2ts
}

// A CallCount is the number of a listener's open calls of one transport.
type CallCount struct {
	Listener  Text `json:"listener"`
	Transport Text `json:"transport"` // as in the log; web: requests to the web server
	Open      int  `json:"open"`
}

// Backends are the backends with their connections.
type Backends struct {
	At       time.Time      `json:"at"`
	Backends []BackendState `json:"backends"`
}

// A BackendState is one backend. A replaced one stays until its last call has ended.
type BackendState struct {
	Name             Text      `json:"name"`
	State            string    `json:"state"`    // idle, connecting, ready, transient_failure or shutdown
	Draining         bool      `json:"draining"` // it was replaced or removed: it gets no new calls
	Calls            int       `json:"calls"`
	Waiting          int       `json:"waiting"` // for a connection or a place
	LostPings        int64     `json:"lost_pings"`
	RetriesByPolicy  int64     `json:"retries_by_policy"`
	RetriesElsewhere int64     `json:"retries_elsewhere"` // to another address
	RetriesWithheld  int64     `json:"retries_withheld"`  // since too many calls failed
	Addresses        []Address `json:"addresses"`
}

// An Address is one address of a backend, as its name resolves now.
type Address struct {
	Address     Text  `json:"address"`
	Accepts     bool  `json:"accepts"`     // it gets new calls
	Unhealthy   bool  `json:"unhealthy"`   // its health check fails
	Failure     Text  `json:"failure"`     // of the last attempt to connect or health check
	Connections int   `json:"connections"` // that are up
	Calls       int   `json:"calls"`       // that have a place on them
	Places      int   `json:"places"`      // calls at once; -1: no limit
	Picks       int64 `json:"picks"`       // calls so far
}

// Routes are what became of the calls of each route.
type Routes struct {
	At            time.Time `json:"at"`
	Since         time.Time `json:"since"`          // when the counts began
	WindowSeconds float64   `json:"window_seconds"` // what the rates are of
	Routes        []Route   `json:"routes"`         // of the configuration that runs
	Left          int64     `json:"left"`           // calls of removed routes, and beyond 1000 pairs
}

// A Route is a route's calls to one backend.
type Route struct {
	Route           Text    `json:"route"`   // empty: the calls had none
	Backend         Text    `json:"backend"` // empty: the calls got none
	Calls           int64   `json:"calls"`   // that have ended
	Errors          int64   `json:"errors"`  // not OK, and not ended by the client
	Cancelled       int64   `json:"cancelled"`
	CallsPerSecond  float64 `json:"calls_per_second"`
	ErrorsPerSecond float64 `json:"errors_per_second"`
	MeanSeconds     float64 `json:"mean_seconds"` // of a call in the window; 0: none has ended
}

// Memory is what culvert holds for its clients.
type Memory struct {
	At            time.Time       `json:"at"`
	HeldBytes     int64           `json:"held_bytes"`
	LimitBytes    int64           `json:"limit_bytes"` // 0: none
	MessageBytes  int64           `json:"message_bytes"`
	MessageLimit  int64           `json:"message_limit_bytes"`
	Evicted       int64           `json:"evicted"`     // calls so far
	CallBytes     int64           `json:"call_bytes"`  // 0 with limit=0
	OtherBytes    int64           `json:"other_bytes"` // without a call; 0 with limit=0
	Calls         []Call          `json:"calls"`       // those that hold most
	Addresses     []AddressMemory `json:"addresses"`   // those whose calls hold most
	AddressesLeft int             `json:"addresses_left"`

	Connections []ConnectionMemory `json:"connections"` // those that hold most, without their calls
}

// ConnectionMemory is what one open connection of a client holds.
type ConnectionMemory struct {
	Peer        Text  `json:"peer"` // of the client, or of a proxy
	Listener    Text  `json:"listener"`
	Transport   Text  `json:"transport"` // http/1.1, h2, websocket; empty: no request has come yet
	Calls       int   `json:"calls"`     // that are open on it
	MemoryBytes int64 `json:"memory_bytes"`
}

// AddressMemory is what the calls of one client address hold.
type AddressMemory struct {
	Address     Text  `json:"address"` // without a port
	Calls       int   `json:"calls"`
	MemoryBytes int64 `json:"memory_bytes"`
}

// Limits are what limits and rules have refused since culvert started.
type Limits struct {
	At     time.Time    `json:"at"`
	Limits []LimitCount `json:"limits"` // by key
	Last   []Refusal    `json:"last"`   // the newest first, at most 200
}

// A LimitCount is how often one key has refused something.
type LimitCount struct {
	Key        Text      `json:"key"`
	Reason     Text      `json:"reason"`
	Refused    int64     `json:"refused"`
	ReportOnly int64     `json:"report_only"` // of rules that are only tried out
	Last       time.Time `json:"last"`
}

// A Refusal is one refusal by a limit or a rule.
type Refusal struct {
	At         time.Time `json:"at"`
	Key        Text      `json:"key"`
	Reason     Text      `json:"reason"`
	Peer       Text      `json:"peer"`
	Detail     Text      `json:"detail"` // the origin, host or method
	ReportOnly bool      `json:"report_only"`
}

// A FailureQuery selects failures. Empty fields select all.
type FailureQuery struct{ Origin, Reason string }

// Failures are the last calls and web requests that failed.
type Failures struct {
	At       time.Time      `json:"at"`
	Counts   []FailureCount `json:"counts"`   // since the start, the most frequent first
	Failures []Failure      `json:"failures"` // the newest first, at most 200 of each origin
}

// A FailureCount is how often calls failed in one way.
type FailureCount struct {
	Origin string `json:"origin"`
	Reason Text   `json:"reason"`
	Code   Text   `json:"code"`
	Failed int64  `json:"failed"`
}

// A Failure is a call, or a request to the web server, whose end wasn't OK.
type Failure struct {
	At        time.Time `json:"at"`
	ID        Text      `json:"id"`
	Method    Text      `json:"method"` // of a web request: its HTTP method and path
	Route     Text      `json:"route"`
	Backend   Text      `json:"backend"`
	Transport Text      `json:"transport"` // web: a request to the web server
	Listener  Text      `json:"listener"`
	Peer      Text      `json:"peer"`
	Client    Text      `json:"client"`
	Identity  Text      `json:"identity"`

	Origin          string  `json:"origin"` // who made the status: upstream, culvert or client
	Reason          Text    `json:"reason"` // of culvert's own statuses
	Limit           Text    `json:"limit"`  // the limit's key
	Code            Text    `json:"code"`   // of a web request the HTTP status
	Message         Text    `json:"message"`
	Cause           Text    `json:"cause"`
	DurationSeconds float64 `json:"duration_seconds"`
}

// Certificates are those in use.
type Certificates struct {
	At           time.Time     `json:"at"`
	Certificates []Certificate `json:"certificates"` // the first to expire first
	Problems     []Text        `json:"problems"`     // with certificates and with ACME
	ACME         []ACMEName    `json:"acme"`         // the configured domains, and at most 200 others; those that fail first
	ACMELeft     int           `json:"acme_left"`
}

// An ACMEName is a name that culvert obtains certificates for by ACME.
type ACMEName struct {
	Name         Text      `json:"name"`
	OnDemand     bool      `json:"on_demand"`              // a client's handshake asked for it
	State        string    `json:"state"`                  // obtaining: the first order is under way; valid: no renewal is due; renewing: an order is under way; failing: the last try failed
	NotAfter     time.Time `json:"not_after,omitzero"`     // the end of the certificate in use; absent: there is none
	NextTry      time.Time `json:"next_try,omitzero"`      // when culvert renews or tries again; absent: an order is under way. A failing on_demand name waits until a client asks after this time
	FailingSince time.Time `json:"failing_since,omitzero"` // since when all tries have failed; absent: the last one didn't
	Failures     int       `json:"failures"`               // tries that have failed in a row
	Problem      Text      `json:"problem"`                // of the last try; empty: it didn't fail
}

// A Certificate is one that culvert shows to clients or to a backend.
type Certificate struct {
	Names            []Text    `json:"names"`
	Source           string    `json:"source"` // file, acme or generated
	File             Text      `json:"file"`   // empty: it has none
	NotAfter         time.Time `json:"not_after"`
	ExpiresInSeconds float64   `json:"expires_in_seconds"`
	Ending           bool      `json:"ending"`    // it should have been replaced
	OnDemand         bool      `json:"on_demand"` // a client's handshake asked for it
}

// Auth is what culvert judges calls by. It has no credentials.
type Auth struct {
	At         time.Time     `json:"at"`
	Enabled    bool          `json:"enabled"`
	Enforced   bool          `json:"enforced"`       // false: only tried out
	Since      time.Time     `json:"since,omitzero"` // when the counts of refusals and rules began: at the start, or at a reload that changed auth
	Ways       []Text        `json:"ways"`           // ways to authenticate
	Refused    []AuthRefused `json:"refused"`        // calls that auth refuses, also those that pass since it isn't enforced; the last ones first
	Rules      []AuthRule    `json:"rules"`          // in the order of auth.rules, and then what has decided without a rule
	Issuers    []AuthIssuer  `json:"issuers"`        // of tokens
	Tokens     AuthTokens    `json:"tokens"`         // verdicts that are kept
	APIKeyFile []AuthFile    `json:"api_key_file"`   // at most one
	Services   []AuthService `json:"services"`       // that culvert asks about calls
}

// An AuthRefused is how many calls auth refuses for the same reason.
type AuthRefused struct {
	Key    string    `json:"key"`    // of the configuration
	Issuer Text      `json:"issuer"` // whose tokens are refused, if it is about those
	Reason string    `json:"reason"`
	Calls  uint64    `json:"calls"`
	Last   time.Time `json:"last"`
	Cause  Text      `json:"cause"` // of the last one
}

// An AuthRule is how many calls a rule has decided on.
type AuthRule struct {
	Name   Text   `json:"name"`   // or a text, such as "no rule allows"
	Effect string `json:"effect"` // allow or deny
	Calls  uint64 `json:"calls"`
}

// An AuthIssuer is an issuer of tokens, with its keys.
type AuthIssuer struct {
	Name     Text             `json:"name"`
	Issuer   Text             `json:"issuer"`           // the claim iss
	Keys     int              `json:"keys"`             // in use, also the last good ones of an earlier fetch
	Fetched  time.Time        `json:"fetched,omitzero"` // when these were fetched; absent: there are none yet
	Next     time.Time        `json:"next,omitzero"`    // the next fetch; absent for a file
	Failures int              `json:"failures"`
	Problem  Text             `json:"problem"` // of the last fetch
	Skipped  []AuthSkippedKey `json:"skipped"` // keys that culvert can't use
}

// An AuthSkippedKey is a key of an issuer that culvert can't use.
type AuthSkippedKey struct {
	ID  Text `json:"id"` // kid
	Why Text `json:"why"`
}

// AuthTokens are the verdicts about tokens that are kept.
type AuthTokens struct {
	Good       int    `json:"good"`
	Refused    int    `json:"refused"`
	Bytes      int    `json:"bytes"`
	Unverified uint64 `json:"unverified"` // refused without a look, since their address had sent too many bad ones
}

// An AuthFile is the file of API keys.
type AuthFile struct {
	File    Text      `json:"file"`
	Keys    int       `json:"keys"`          // in force
	Read    time.Time `json:"read,omitzero"` // when these were read
	Problem Text      `json:"problem"`       // with the newest version
}

// An AuthService is a service that culvert asks about calls. Each call is in one of the counts
// up to unasked.
type AuthService struct {
	Name        string  `json:"name"`    // external or rate_limit
	Problem     Text    `json:"problem"` // of the last question
	Allowed     uint64  `json:"allowed"`
	Denied      uint64  `json:"denied"`
	Failed      uint64  `json:"failed"` // calls without a usable answer, refused
	Open        uint64  `json:"open"`   // calls without a usable answer, that passed
	Cancelled   uint64  `json:"cancelled"`
	Unasked     uint64  `json:"unasked"`      // nothing to ask
	Cached      uint64  `json:"cached"`       // of all: from the cache
	Shared      uint64  `json:"shared"`       // of all: by another call's question
	Asking      int     `json:"asking"`       // now
	MeanSeconds float64 `json:"mean_seconds"` // of a question
}

// A Status is the state of the program.
type Status struct {
	At            time.Time           `json:"at"`
	Version       string              `json:"version"` // of culvert
	Started       time.Time           `json:"started"`
	LogLevel      string              `json:"log_level"` // debug, info, warn or error
	Drain         DrainState          `json:"drain"`
	Configuration ConfigurationStatus `json:"configuration"`
	Problems      []Text              `json:"problems"` // that don't keep culvert from serving
	Token         bool                `json:"token"`    // callers must know admin.token, so a browser has a session
}

// A ConfigurationStatus is which configuration culvert runs, and why not the newest file.
type ConfigurationStatus struct {
	File       Text      `json:"file"`     // empty: there is none
	Version    string    `json:"version"`  // distinguishes it from others
	Since      time.Time `json:"since"`    // when it took effect
	Rejected   []Text    `json:"rejected"` // why culvert doesn't run the newest file, a line for each mistake; empty: it does
	RejectedAt time.Time `json:"rejected_at,omitzero"`
	Difference []Text    `json:"difference"` // keys whose values differ in a file that was rejected and could be read
	Restart    []Text    `json:"restart"`    // of these, keys that need a restart
}
