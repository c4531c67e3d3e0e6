package claims

// sections are every claim of the security model, in the order of the page.
var sections = []section{
	{"Pages of other origins", []claim{
		{
			"culvert answers 403 to a page whose origin isn't listed, in calls, upgrades and preflights.",
			[]string{"e2e.TestOrigins", "bridge/internal/gate.TestOrigins", "TestOriginsAreJudgedAlike"},
		},
		{
			"`https://*.example.com` doesn't match `evilexample.com`. Only a lone `*` allows every host; no pattern for `http` or `https` does.",
			[]string{"TestOriginPatternsThatMeanNothing", "FuzzOrigin"},
		},
		{
			"A regular expression matches whole origins only, and only of one scheme, in time linear in the origin's length.",
			[]string{"TestOriginExpressions", "TestOriginExpressionTakesNoTime"},
		},
		{
			"Only the entry `null` allows the origin `null`, and never with cookies.",
			[]string{"TestNullOriginByNameAlone", "TestNullIsAllowedByName"},
		},
		{
			"culvert accepts cookies, and sends `access-control-allow-credentials`, only for its own origins and for origins that are listed exactly.",
			[]string{"TestCookiesWantAnExactOrigin", "TestCookiesPassOnlyForListedOrigins"},
		},
		{
			"Cookies reach the backend only if the configuration says so.",
			[]string{"TestCookiesPassOnlyForListedOrigins"},
		},
		{
			"If cookies would reach the backend, a request with cookies needs an `Origin`, or `Sec-Fetch-Site: same-origin` from the browser.",
			[]string{"TestOriginThatIsAbsent", "TestCookiesOfOrigins"},
		},
		{
			"culvert refuses a request with several `Origin` fields or an empty one.",
			[]string{"TestTwoOrigins"},
		},
		{
			"A page loaded over HTTP doesn't count as same-origin for an HTTPS listener.",
			[]string{"TestPagesOfThisServerOverTLS"},
		},
		{
			"If a proxy rewrites `Origin` to culvert's own name, culvert refuses the request by `Sec-Fetch-Site: cross-site`. This applies to every spelling of `Host` (`:443`, a final dot), even if `allow_origins` lists it.",
			[]string{"TestOwnOriginThatTheBrowserDenies"},
		},
		{
			"No cache serves one page's answer to another: `Vary` names what each answer depends on, in refusals and preflights too.",
			[]string{"TestVary"},
		},
		{
			"Neither a call inside a tunnel nor the first message of a WebSocket can claim another origin than the upgrade had.",
			[]string{"TestTunnelOriginIsTheOutersInAll", "TestBlockMayNotSayWhatTheUpgradeSays"},
		},
		{
			"On a loopback address, culvert answers only if `Host` is an IP address, localhost or a name in `hosts` (DNS rebinding).",
			[]string{"TestHostsOfALoopbackListener"},
		},
		{
			"With `hosts`, a call by `GET` over plaintext without `Origin` or `Sec-Fetch-Site: same-origin` needs a known host: an IP address, localhost, a name in `hosts` or one of a certificate.",
			[]string{"TestGetsOverPlaintextNeedAKnownHost", "TestGetsOfForeignNames"},
		},
		{
			"On a loopback address, `health.listen` answers only if `Host` is an IP address or localhost.",
			[]string{"TestHealthOnLoopbackChecksHost"},
		},
		{
			"culvert starts only with an admin address on loopback or on a unix socket of culvert's user.",
			[]string{"TestValuesByKind"},
		},
		{
			"A supervisor's socket for the admin address must be on loopback, or a unix socket that only its owner can connect to.",
			[]string{"TestAdminTakesNoSocketOfOthers"},
		},
		{
			"The admin address answers only if `Host` is localhost or a loopback address, and to no page of another origin. A request that changes something needs the header `Culvert-Admin`, and culvert refuses preflights for it.",
			[]string{"TestAdminAddressIsForOperators"},
		},
		{
			"A preflight grants only headers that a call may carry.",
			[]string{"TestPreflightGrantsNoMoreThanItReads"},
		},
		{
			"Foreign pages in Chromium get no call through with a user's cookies: other sites, other origins of the same site, culvert's own name over HTTP, and sandboxes. They try WebSocket, `fetch` with and without preflight, beacon, form, frame and redirect.",
			[]string{"TestForeignPages", "TestPublishedClients"},
		},
		{
			"With `enforce_origins: false`, culvert logs a request that a rule would refuse, and passes it on without cookies; with `methods.enforce: false`, a call.",
			[]string{"e2e.TestOriginsAreTriedOut", "bridge.TestOriginsAreTriedOut", "TestMethodsAreTriedOut"},
		},
	}},
	{"Forged identity", []claim{
		{
			"culvert removes `x-forwarded-*`, `forwarded`, `via`, `x-real-ip` and other headers of front proxies, unless the peer is in `trusted_proxies`. On every transport.",
			[]string{"TestClientsCannotVouchForThemselves"},
		},
		{
			"The same applies to requests to the web server in `fallback`.",
			[]string{"TestWebServerGetsTheRequest"},
		},
		{
			"culvert never forwards these names with underscores or dots (`x_forwarded_for`, `X-Forwarded_Host`, `x.forwarded.for`), whoever sends them. Other names keep theirs.",
			[]string{"TestNamesThatLookVouchedFor", "TestOwnVouchedNamesAndWhatLooksLikeThem", "TestInsideATunnelTheOuterRequestSpeaks", "TestConformance/request headers that don't cross"},
		},
		{
			"culvert never forwards names that begin with `culvert-` or `x-culvert-`.",
			[]string{"TestNamesThatLookVouchedFor", "TestOwnVouchedNamesAndWhatLooksLikeThem", "TestConformance/request headers that don't cross"},
		},
		{
			"culvert reads a trusted proxy's headers only from the HTTP request itself, not from a WebSocket's first message or inside a tunnel.",
			[]string{"TestTrustedProxyVouches", "TestBlockMayNotSayWhatTheUpgradeSays", "TestInsideATunnelTheOuterRequestSpeaks"},
		},
		{
			"culvert reads a PROXY header only from the addresses in `proxy_protocol`, and those must send one. From others it is a bad request.",
			[]string{"TestPeerAddress", "TestPROXYPortWantsItsHeader", "TestPROXYHeaderOfAStrangerIsNone", "TestBehindHAProxy"},
		},
		{
			"If a PROXY header names no client (LOCAL, UNKNOWN), forwarding headers don't count on that connection.",
			[]string{"TestPeerAddress"},
		},
		{
			"Of `X-Forwarded-For` and `Forwarded`, culvert reads only the one in `trusted_header`, without the entries that a client has written.",
			[]string{"TestPeerAddress", "TestWhoCallsByForwarded", "FuzzForwardedFor", "FuzzParseForwarded", "TestBehindNginx"},
		},
		{
			"A slow, long or malformed PROXY header costs its own connection, and delays no other.",
			[]string{"TestSilentPeerOfAProxyPortIsCut", "TestPROXYConnectionsAreTold", "FuzzReadProxyHeader"},
		},
		{
			"culvert takes a client's name only from a verified certificate. It never forwards `x-forwarded-client-cert` and `client-cert` from clients.",
			[]string{"TestClientNames", "TestClientCertificateIsForwardedByKey"},
		},
		{
			"culvert's own `x-forwarded-client-cert` is printable, whatever the certificate contains. It counts towards `limits.header_bytes` and is never truncated.",
			[]string{"TestClientCertificateThatNoHeaderCarries", "TestClientCertificateCountsAsMetadata"},
		},
		{
			"On a connection for a name or IP address that needs no client certificate, culvert answers 421 to a request for one that needs it, in any spelling. A malformed host gets 400.",
			[]string{"TestMisdirectedRequests", "TestPolicyByName", "FuzzParseAuthority"},
		},
		{
			"Without SNI, the client-certificate policy is that of the certificate for the address that the client connected to, else of the first one.",
			[]string{"TestPolicyByAddress", "TestPolicyGoesByTheAddressConnectedTo"},
		},
		{
			"These are configuration errors: `client_ca` with `client_auth: none`, or with an empty variable as its file name, and revocation lists that a listener doesn't use. `culvert validate` reads `client_ca` even if certificates come by ACME.",
			[]string{"TestDangers", "TestPairThatNoClientSelectsIsAnError"},
		},
		{
			"A certificate, other than the default, that neither SNI nor an address can select is a configuration error.",
			[]string{"TestPairThatNoClientSelectsIsAnError"},
		},
		{
			"culvert forwards no hop-by-hop HTTP header, and none of gRPC's own headers, as metadata.",
			[]string{"TestConformance/hop-by-hop request headers", "TestConformance/request headers that don't cross"},
		},
		{
			"A metadata value can't start a header field or a line of its own.",
			[]string{"TestNoFieldCanBeginALineOfItsOwn"},
		},
	}},
	{"Listeners", []claim{
		{
			"Each listener has its own TLS, client protocols (transports) and trusted proxies.",
			[]string{"TestListenersTakeTheirOwn", "TestListenersTrustTheirOwn", "TestListenersTLS"},
		},
		{
			"A transport that the listener doesn't serve is refused in its own protocol, inside a tunnel too.",
			[]string{"TestConformance/transports of a listener", "TestListenersTakeTheirTransports"},
		},
		{
			"A unix socket has its file mode before anybody can connect.",
			[]string{"TestSocketsAreAsPrivateAsTheirMode"},
		},
		{
			"culvert replaces a stale socket, but no socket that another process serves, and no other file.",
			[]string{"TestSocketsOfTheDeadAreReplaced"},
		},
		{
			"culvert binds all listener addresses, or none.",
			[]string{"TestListenersAreBoundAllOrNone"},
		},
		{
			"`culvert validate` and the start warn of plaintext on a public address, on all addresses (`:8080`, 0.0.0.0, [::]) if the configuration sets them, or beside listeners with TLS. They don't if `tls: {enabled: false}` of the listener, `trusted_proxies` or `proxy_protocol` shows that it is intended.",
			[]string{"TestDangers"},
		},
		{
			"`culvert validate` and the start warn of trust in everybody or in large parts of the internet.",
			[]string{"TestDangers"},
		},
		{
			"Addresses that collide, and TLS without a certificate, are configuration errors.",
			[]string{"TestDangers"},
		},
	}},
	{"TLS and certificates", []claim{
		{
			"culvert speaks TLS 1.2 and 1.3, with Go's cipher suites and curves, and refuses older versions.",
			[]string{"TestOldestVersion", "TestOldVersionsAreRefused"},
		},
		{
			"A new certificate doesn't touch open connections. A bad file changes nothing, is logged once and shown by `/readyz`.",
			[]string{"TestCertificateIsReplacedUnderOpenStreams", "TestBadCertificateChangesNothing"},
		},
		{
			"culvert rejects a truncated or damaged file of certificates or revocation lists as a whole.",
			[]string{"TestFilesThatAreCutOffAreErrors", "FuzzPEMBlocks"},
		},
		{
			"A revocation list that a CA signed with its renewed key also applies to certificates from the old key.",
			[]string{"TestListOfARenewedKeyCounts"},
		},
		{
			"These are errors: a revocation list that no CA of that name in `client_ca` signed, and a file in which a second list would go unread.",
			[]string{"TestListOfAnUnknownKeyIsRefused", "TestListsThatProveNothingAreErrors"},
		},
		{
			"If an intermediate CA is revoked, culvert refuses the clients that it signed, even if the CA itself is in `client_ca`.",
			[]string{"TestAuthorityInBetweenIsRevoked"},
		},
		{
			"If a certificate is required, a client with none, with one of another CA or with a revoked one fails the handshake, also when it resumes a session.",
			[]string{"TestClientCertificates", "TestRevokedClientCertificate", "TestRevocationEndsResumption", "TestSessionIsNotResumedUnderAnotherPolicy"},
		},
		{
			"A connection for a name with a weaker client-certificate policy carries no request for a name with a stricter one.",
			[]string{"TestPolicyByName"},
		},
		{
			"A TLS-ALPN-01 challenge needs no client certificate and gives access to nothing else.",
			[]string{"TestChallengeIsNoWayAroundClientCertificates"},
		},
		{
			"`culvert validate` and the start warn of a private key that everybody on the host can read or change, and of a `tls.acme.storage` that everybody can list or write to. They follow links and look at each folder on the path.",
			[]string{"TestExposedKeysAreToldOf", "TestKeysThatOthersCanGetAt", "TestStorageThatOthersCanGetAt"},
		},
		{
			"The development CA can sign only for its own names, and other users can't read its key.",
			[]string{"TestDevelopmentAuthorityIsConstrained", "TestSelfSigned"},
		},
		{
			"The redirect to HTTPS leads only to the requested host, if a certificate or `hosts` has it. Shared caches don't keep it.",
			[]string{"TestRedirectToHTTPS", "TestRedirectBehindALoadBalancer", "TestWhoIsServed", "FuzzRedirect"},
		},
	}},
	{"Methods that aren't public", []claim{
		{
			"A route's rewrite opens no denied method: `methods` and `limits.methods` judge the name that the backend receives, over WebSockets, too.",
			[]string{"TestRewriteOpensNoDeniedMethod", "TestRoutes"},
		},
		{
			"A page may make a call only if the origins of the call's route allow it, in each protocol and for each call in a tunnel. A route that metadata selects never has the origins of another route that matches more calls.",
			[]string{"TestOriginsOfARoute", "TestExplanationIsWhatHappens"},
		},
		{
			"A route can't set metadata that only culvert and trusted proxies may set, or that is gRPC's own.",
			[]string{"TestWrongRoutes"},
		},
		{
			"`methods.deny` wins over `methods.allow`. Services that expose a server's internals need `methods.allow`.",
			[]string{"TestMethodPolicy", "TestConformance/services that show the backend's inside"},
		},
		{
			"No other spelling of a method gets around a rule: a path with percent-encoding, doubled slashes or dot segments is no method.",
			[]string{"TestParseMethod", "FuzzParseMethod", "TestPathsOfMessages"},
		},
	}},
	{"Request smuggling", []claim{
		{
			"culvert closes an HTTP/1 connection after an answer sent before the request's end, after each refused request and after each HTTP/1.0 request.",
			[]string{"TestNothingIsServedBehindARefusal", "TestConformance/nothing is smuggled behind an early answer"},
		},
		{
			"Bytes that arrive with an upgrade belong to the WebSocket.",
			[]string{"TestBytesBehindAnUpgradeAreItsOwn"},
		},
		{
			"The web server in `fallback` gets requests written anew, no upgrade but to WebSocket, no trailers, and no field that `Connection` names.",
			[]string{"TestNothingIsSmuggledToTheWebServer", "TestWebServerGetsTheRequest"},
		},
		{
			"A tunnel carries neither upgrades nor tunnels.",
			[]string{"TestNoTunnelInsideATunnel"},
		},
	}},
	{"Memory", []claim{
		{
			"A length prefix allocates nothing. From its second KiB, a message in progress counts against `limits.buffered_bytes`, which all calls share.",
			[]string{"TestLengthPrefixAllocatesNothing", "TestStalledLargeMessagesStayWithinTheBudget"},
		},
		{
			"The bytes of an admitted call that its client sends over HTTP/2 count even before culvert reads them.",
			[]string{"TestUnreadBodyIsCounted", "TestQueuedRequestsCount"},
		},
		{
			"Bytes that a backend sends count from arrival until the client has them, also while the rest of the message waits for memory.",
			[]string{"TestFlowsFindTheirStreams", "TestStalledReplyCountsWhatHasCome"},
		},
		{
			"A backend may send a reply that is larger than the [window of its stream](../memory.md#one-call) only when there is memory for it. Until then, all replies on one connection together bring at most the connection's window.",
			[]string{"TestLargeRepliesStayWithinTheBudget", "TestConnectionsWindowWaitsForRoom", "TestLargeRepliesLeaveNoCreditBehind"},
		},
		{
			"While others wait for memory, culvert ends calls of the address that holds the most memory, if that is more than its [share](../memory.md#when-memory-is-scarce). It begins with those that have stood still longest, and ends up to an eighth of the memory for messages at a time.",
			[]string{"TestLargestAddressMakesRoom"},
		},
		{
			"culvert doesn't end a call that makes progress while its address is within its share.",
			[]string{"TestCallWithinItsShareIsLeftAlone"},
		},
		{
			"One address alone may use all memory. culvert then ends only its calls that hold memory and have moved nothing for 5 s, and uploads that raise the count to an eighth above a limit.",
			[]string{"TestAddressAloneUsesEverything", "TestUnaskedBytesHaveABound"},
		},
		{
			"Freed memory goes first to addresses that hold less than their share.",
			[]string{"TestThoseWithinTheirShareGoFirst", "TestOthersWaitBehindThoseWithinTheirShare"},
		},
		{
			"At an address over its share, connections without calls also end when others need memory.",
			[]string{"TestIdleConnectionsMakeRoom"},
		},
		{
			"Unread request bodies over HTTP/2 bring the counted memory at most an eighth above the limits, except at addresses within their share.",
			[]string{"TestUnaskedBytesHaveABound", "TestUnwantedBodyIsDropped", "TestMemoryAttacks"},
		},
		{
			"Large messages may use only a part of the memory, and each address has a share of that part.",
			[]string{"TestBulkLeavesRoom", "TestClassHasShares"},
		},
		{
			"A new call of an address within its share waits up to 2 s for memory; of an address over its share it is refused at once.",
			[]string{"TestNewcomers"},
		},
		{
			"However many calls and connections there are, open streams can still exchange messages.",
			[]string{"TestCallsLeaveRoomForMessages"},
		},
		{
			"Without memory, culvert refuses a call in its own protocol, and closes a connection before its TLS handshake.",
			[]string{"TestMemoryLimit", "TestMemoryLimitOfConnections", "TestWithoutMemory"},
		},
	}},
	{"Denial of service", []claim{
		{
			"A client can't add time series to the metrics. Methods that no backend has shown to know count as one, and at most 500 by their names.",
			[]string{"TestMethodsNobodyKnowsFold", "TestTableIsWhatPrometheusGets"},
		},
		{
			"`/metrics` answers a few callers at a time, and each within a bounded time.",
			[]string{"TestScrapes"},
		},
		{
			"Malformed input costs the sender its call or its connection, with a precise error, and affects no other client.",
			[]string{"TestHostileBytes"},
		},
		{
			"Decompression stops at the message limit.",
			[]string{"TestBombIsNotExpanded", "TestConformance/gzip bomb in the request"},
		},
		{
			"If one address sends gzip bombs, half of the CPU stays free and other addresses' compressed calls are served.",
			[]string{"TestExpansionByOneAddress", "TestMessagesAtOnceShareADebt"},
		},
		{
			"A client that reads slowly or not at all holds one window and one message. culvert cuts it after `limits.slow_consumer_timeout`.",
			[]string{"TestSlowReadersAreNotBufferedFor", "TestSlowConsumerLimit"},
		},
		{
			"A client that opens no window gets its call's status, if that is in trailers. culvert keeps `limits.memory` whatever clients leave unread: answers of running calls, of ended ones and of refused requests.",
			[]string{"TestEndsBehindAShutWindow", "TestMemoryAttacks"},
		},
		{
			"A call that nobody reads doesn't stall the other calls on its connection.",
			[]string{"TestUnreadCallsLeaveTheirConnectionAlone"},
		},
		{
			"During each of the [attacks](attacks.md), ordinary clients are still served.",
			[]string{"e2e.TestFloods", "TestDawdlers", "TestSlowSenders", "TestBombs"},
		},
		{
			"culvert closes connections that trickle their headers within 15 s (HTTP/1.1) or 35 s (HTTP/2).",
			[]string{"TestTricklersAreClosed"},
		},
		{
			"Hundreds of reset streams leave nothing behind.",
			[]string{"TestHundredsOfResetCallsLeaveNothing"},
		},
		{
			"culvert's own HTTP/2 server ([0007](../../decisions/0007-own-http2-server.md)) follows the RFC, and ends the connection of a client that doesn't read the acknowledgements that it provokes.",
			[]string{"TestH2Spec", "TestAnswersThatNobodyTakes", "FuzzConn"},
		},
		{
			"`limits.connections`, `limits.calls`, `limits.calls_per_connection` and `limits.handshakes_per_second` are enforced, and the refusal names the limit.",
			[]string{"TestConnectionLimit", "TestCallLimit", "TestCallsPerConnectionLimit", "TestHandshakeLimit"},
		},
		{
			"Metadata over `limits.header_bytes` costs only its own call.",
			[]string{"TestOversizeMetadataCostsItsOwnCall"},
		},
		{
			"culvert notices a vanished client within 45 s, whatever the client was doing.",
			[]string{"TestSilentClient"},
		},
		{
			"Connections end for lack of calls, or for their age, as configured, and the log has the reason.",
			[]string{"TestConnectionAges", "TestEndsOfConnections"},
		},
		{
			"Floods of frames that advance no call end their HTTP/2 connection or WebSocket, even if useful frames are mixed in. So do streams that are reset as soon as they begin.",
			[]string{"bridge/internal/h2.TestFloods", "TestFloodsBesideWork", "TestStreamsForNothing", "TestFramesThatCarryNothing"},
		},
		{
			"Calls that a client cancels in ordinary use are no flood.",
			[]string{"TestCancelledStreams"},
		},
	}},
	{"Limits by scope", []claim{
		{
			"A refused call uses no quota. culvert checks the limits of the client's address first, then of the method, the listener and the server.",
			[]string{"TestCallsCountWhereTheyBelong", "TestRefusedCallsTakeNothing", "TestPlacesAreGivenBack", "TestAddressLimits"},
		},
		{
			"A refused call learns in its own protocol which limit it met and when to retry.",
			[]string{"TestConformance/over a limit", "TestRetryIsWhenThereIsRoom"},
		},
		{
			"culvert counts IPv6 clients by /64 prefix, and behind trusted proxies by the client's own address.",
			[]string{"TestAddressKey", "FuzzAddressKey", "TestAddressLimits"},
		},
		{
			"Millions of addresses take bounded memory, which culvert frees afterwards. It forgets no address whose rate is in use.",
			[]string{"TestMillionsOfAddresses", "TestAddressesAreForgotten", "TestNobodyComesBackAnew"},
		},
		{
			"With `limits.enforce: false`, culvert logs once what it would refuse, by call or connection, and takes no quota for it.",
			[]string{"TestLimitsAreTriedOut", "TestBodyThatIsTriedOutIsToldOfOnce"},
		},
		{
			"A reserve of file descriptors stays free for the backend, health checks and clients that are already connected.",
			[]string{"TestConnectionsLeaveDescriptors", "TestNoDescriptorIsLeft"},
		},
	}},
	{"Backends", []claim{
		{
			"A backend can't speak for the origin to a browser: culvert doesn't forward `access-control-*`, `location`, `strict-transport-security`, `clear-site-data` and similar headers.",
			[]string{"TestConformance/response headers that don't cross"},
		},
		{
			"culvert forwards `set-cookie` only if the configuration says so.",
			[]string{"TestCookiesPassOnlyForListedOrigins"},
		},
		{
			"A response that breaks off before its trailers never becomes a success.",
			[]string{"TestCutBackendIsNeverOK", "TestConformance/backend ends without trailers", "TestPublicConformance"},
		},
		{
			"If a backend's status claims to come from culvert, the log still attributes it to the backend.",
			[]string{"TestConformance/a status that claims to be culvert's"},
		},
	}},
	{"Reload", []claim{
		{
			"A configuration file that is wrong or empty, or that changes a key which needs a restart, changes nothing.",
			[]string{"TestReloadChangesAllOrNothing", "TestReloadRefusesFiles", "TestReloadKeepsWhatAnEmptyFileWouldDrop"},
		},
		{
			"If a new version of `backend.descriptors` can't be used, culvert keeps the one before. A change of the file ends no call and no connection.",
			[]string{"TestDescriptorFileThatGoesBad", "TestDescriptorsFromAFile"},
		},
		{
			"culvert doesn't apply a file that somebody writes to while culvert reads it.",
			[]string{"TestFileThatChangesWhileItIsRead"},
		},
		{
			"A file that newly requires client certificates needs a restart.",
			[]string{"TestReloadKeepsTheRulesForClients", "TestKeysThatNeedARestart"},
		},
	}},
	{"Logs and errors", []claim{
		{
			"No token, cookie, key, metadata value or query string appears in the log, at any level, or in a status that culvert makes.",
			[]string{"TestSecretsStayOutOfTheLog"},
		},
		{
			"culvert logs answers of a CA or DNS provider without the secrets of `tls.acme`, also inside a URL, in JSON and in base64.",
			[]string{"TestSecretsAreRedactedInEveryForm", "TestACMEByDNS", "FuzzRedact"},
		},
		{
			"No address and no dial error reaches a client, unless `errors` is `detailed`.",
			[]string{"TestInsideStaysInside"},
		},
		{
			"Text from a client or backend can neither control a terminal nor start a log line.",
			[]string{"TestHostileTextIsEscapedOnATerminal", "TestHostilePageIsEscapedOnATerminal"},
		},
		{
			"`culvert validate` warns of dangerous settings: the origin `*`, trust in everybody, detailed errors on a listener that other hosts can reach.",
			[]string{"TestContradictionsAndDangers", "TestDangers"},
		},
	}},
	{"Container image", []claim{
		{
			"The image holds one statically linked program and the usual CA certificates, has no shell, and runs as a user that isn't root.",
			[]string{"TestImage"},
		},
	}},
	{"File permissions", []claim{
		{
			"`culvert validate` and the start warn of files that others can change or, for secrets, read, and of folders on the path.",
			[]string{"TestKeysThatOthersCanGetAt", "TestFilesThatDecideWhoMayEnter", "TestFoldersOnTheWay", "TestStorageThatOthersCanGetAt"},
		},
		{
			"These warnings follow symbolic links. They take sticky folders, group permissions and the volumes of a pod into account.",
			[]string{"TestLinksOnTheWay", "TestStrangersFileInAStickyFolder", "TestGroupsThatCanWrite", "TestVolumesOfAPod"},
		},
	}},
	{"Go's HTTP/2 server", []claim{
		{
			"With `http2_server: standard`, grpc-go and curl call through Go's HTTP/2 server. Every transport passes the same scenarios, except one about connection age.",
			[]string{"TestStandardHTTP2", "TestStandardHTTP2Server", "TestConformance"},
		},
		{
			"With `http2_server: standard`, old connections end, listeners keep their stream limits, and the log has no detailed reason.",
			[]string{"TestStandardHTTP2EndsOldConnections", "TestStandardHTTP2KeepsAListenersStreams", "TestStandardHTTP2TellsNoEnd"},
		},
	}},
}
