"""Where hospital protocols become events: DICOM C-STORE and HL7 v2 over MLLP. Neither encrypts nor knows who calls.

patients, times, units                    rules that both doors share; pure
instances, elements · er7, acknowledgments, translation    bytes of one message to records; pure
forwarding                                records to Kafka: nothing is answered before the broker's word
dicom · hl7                               the listening sockets
"""
